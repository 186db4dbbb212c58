"""The people on the local chain, as a process of its own: users who swap through the routers at
random moments, and an informed trader who keeps pools near a reference price."""

from __future__ import annotations

import collections
import json
import logging
import os
import signal
import sys
import time
from types import FrameType

import numpy as np

from configs.reading import read_or_exit
from devnet.accounts import INFORMED, account, sign
from devnet.behaviour import Reference, Reserves, Swap, informed_swaps, user_swap
from devnet.config import ROLES, TrafficConfig, TrafficProcess
from devnet.guard import exit_with_parent
from devnet.rpc import Rpc, RpcError
from devnet.world import World, reserves, world_from_manifest

LOG = logging.getLogger("devnet.traffic")
RATE_BOUNDS = (0.25, 2.5)  # of the configured arrivals, however cheap or dear blocks get
MAX_FAILURES_IN_A_ROW = 20  # then the node is gone


class Traffic:
    """State of the traffic: nonces, and the chain as of the last block it has seen."""

    def __init__(self, rpc: Rpc, world: World, config: TrafficConfig, base_fee_wei: int) -> None:
        self.rpc, self.world, self.config = rpc, world, config
        self.usual_base_fee_wei = base_fee_wei
        self.rng = np.random.default_rng(config.seed)
        self.reference = Reference(world.tokens, world.weth, config)
        self.sent: collections.Counter[str] = collections.Counter()
        self.refused = 0
        self.users = [ROLES + index for index in range(len(world.users))]
        self._block = -1
        self._base_fee_wei = base_fee_wei
        self._reserves: Reserves = {}
        self._confirmed: dict[int, int] = {}  # nonce after the last block, per account
        self._next: dict[int, int] = {}  # nonce of the next transaction, per account

    def refresh(self) -> None:
        """Read the chain again when there is a new block."""
        number = int(self.rpc.call("eth_blockNumber"), 16)
        if number == self._block:
            return
        for _ in range(min(number - self._block, 100) if self._block >= 0 else 1):
            self.reference.advance(self.rng)
        tag = hex(number)
        pairs = zip(self.world.pools, reserves(self.rpc, self.world.pools, tag), strict=True)
        self._reserves = {pool.address: pair for pool, pair in pairs}
        traders = [INFORMED, *self.users]
        header = self.rpc.call("eth_getBlockByNumber", tag, False)
        counts = self.rpc.batch(
            [("eth_getTransactionCount", (account(index).address, tag)) for index in traders]
        )
        self._base_fee_wei = int(header["baseFeePerGas"], 16)
        for index, count in zip(traders, counts, strict=True):
            self._confirmed[index] = int(count, 16)
            self._next[index] = max(self._next.get(index, 0), self._confirmed[index])
        self._block = number

    def rate_per_s(self) -> float:
        """Users' arrivals per second at the present base fee."""
        relative = self._base_fee_wei / self.usual_base_fee_wei
        low, high = RATE_BOUNDS
        factor = min(high, max(low, relative**-self.config.fee_elasticity))
        return factor * self.config.swaps_per_slot / self.world.slot_s

    def user_arrives(self) -> None:
        """One user without a pending transaction sends a swap."""
        self.refresh()
        idle = [index for index in self.users if self._idle(index)]
        if not idle:
            return  # everybody waits for a crowded block
        user = idle[int(self.rng.integers(len(idle)))]
        address = account(user).address
        swap = user_swap(self.world, self.config, self._reserves, address, time.time(), self.rng)
        if swap is not None:
            self._send(user, swap)

    def informed_arrives(self) -> None:
        """The informed trader corrects the pools that are furthest from the reference."""
        self.refresh()
        if not self._idle(INFORMED):
            return
        for swap in informed_swaps(
            self.world,
            self.config,
            self._reserves,
            self.reference,
            account(INFORMED).address,
            time.time(),
        ):
            self._send(INFORMED, swap)

    def _idle(self, index: int) -> bool:
        # one pending transaction per user: a second one would wait for the first whatever it pays
        return self._next[index] == self._confirmed[index]

    def _send(self, index: int, swap: Swap) -> None:
        raw, _ = sign(index, self._next[index], self.world.chain_id, swap.call, swap.tip_wei)
        [answer] = self.rpc.try_batch([("eth_sendRawTransaction", (raw,))])
        if isinstance(answer, RpcError):
            self.refused += 1
            LOG.warning("%s refused: %s", swap.function, answer)
            return
        self._next[index] += 1
        self.sent[swap.function] += 1


def run(traffic: Traffic, duration_s: float) -> None:
    """Two Poisson clocks, users and the informed trader, for `duration_s` seconds (0: no end)."""
    ends_at = time.monotonic() + duration_s if duration_s else float("inf")
    traffic.refresh()
    informed_rate = traffic.config.informed_rate / traffic.world.slot_s
    failures = 0
    while time.monotonic() < ends_at:
        rate = traffic.rate_per_s() + informed_rate
        if rate <= 0.0:
            time.sleep(min(1.0, max(0.0, ends_at - time.monotonic())))
            continue
        time.sleep(max(0.0, min(traffic.rng.exponential(1 / rate), ends_at - time.monotonic())))
        try:
            if traffic.rng.random() * rate < informed_rate:
                traffic.informed_arrives()
            else:
                traffic.user_arrives()
            failures = 0
        except RpcError:
            failures += 1
            if failures == MAX_FAILURES_IN_A_ROW:
                raise
            time.sleep(0.1)


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> int:
    """Populate the chain of a manifest until the duration is over or the parent dies."""
    config = read_or_exit(TrafficProcess, "python -m devnet.traffic", sys.argv[1:], __doc__)
    exit_with_parent(os.getppid())
    signal.signal(signal.SIGTERM, _end)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        manifest = json.loads(config.manifest.read_text())
        world, url = world_from_manifest(manifest), manifest["http_url"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        LOG.error("manifest %s was not written by python -m devnet: %r", config.manifest, error)
        return 2
    rpc = Rpc(url)
    traffic = Traffic(rpc, world, config.traffic, config.base_fee_wei)
    try:
        run(traffic, config.duration)
    except RpcError as error:
        LOG.error("%s", error)
        return 1
    finally:
        rpc.close()
        LOG.info("sent %s, refused %d", dict(traffic.sent), traffic.refused)
    return 0


if __name__ == "__main__":
    sys.exit(main())
