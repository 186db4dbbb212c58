"""Seeded random cases that favour edges: library arguments, and lives of whole pools."""

from __future__ import annotations

import copy
import random
from collections import Counter
from dataclasses import dataclass, field

from kernels.pools.uniswap_v3.forks import FORKS, UNISWAP_V4
from kernels.pools.uniswap_v3.state import PoolSnapshot, V3Pools, build_pools, read_pool
from kernels.pools.uniswap_v3.status import OK
from tests.support.uniswap_v2_referee import RevertError
from tests.support.uniswap_v3 import reference
from tests.support.uniswap_v3.kernels import modify_one, swap_one
from tests.support.uniswap_v3.referee import After, DeployedPool, DeployedV4Pool

MAX_INT24 = 2**23 - 1


def edge_integer(rng: random.Random, bits: int) -> int:
    """Up to `bits` bits, all lengths equally likely, often next to a power of two."""
    length = rng.randint(0, bits)
    kind = rng.random()
    if kind < 0.15:
        return (1 << length) - 1
    if kind < 0.3:
        return min(1 << length, (1 << bits) - 1)
    return rng.getrandbits(length) if length else 0


def library_arguments(rng: random.Random, name: str) -> tuple[int, ...]:
    """Arguments for one call of a library function, as its Solidity types allow."""
    price, other = edge_integer(rng, 160), edge_integer(rng, 160)
    liquidity, amount = edge_integer(rng, 128), edge_integer(rng, 256)
    if name in ("mulDiv", "mulDivRoundingUp"):
        return amount, edge_integer(rng, 256), edge_integer(rng, 256)
    if name == "getSqrtRatioAtTick":
        return (rng.randint(-887275, 887275),)
    if name == "getTickAtSqrtRatio":
        if rng.random() < 0.5:
            return (price,)
        edge = reference.get_sqrt_ratio_at_tick(rng.randint(-887272, 887272))
        return (edge + rng.randint(-1, 1),)
    if name in ("nextPriceFromInput", "nextPriceFromOutput"):
        return price, liquidity, amount, rng.random() < 0.5
    if name in ("amount0Delta", "amount1Delta"):
        return price, other, liquidity, rng.random() < 0.5
    if name == "maxLiquidityPerTick":
        return (rng.randint(1, 16383),)
    assert name == "computeSwapStep"
    return _step_arguments(rng, price, other, liquidity)


def _step_arguments(
    rng: random.Random, price: int, target: int, liquidity: int
) -> tuple[int, int, int, int, int]:
    """Half are wild; half are steps of a real pool with an amount near what the step takes."""
    fee = rng.choice([100, 500, 2500, 3000, 10000, 0, 999999, rng.randint(0, 999999)])
    sign = rng.choice([1, -1])
    if rng.random() < 0.5:
        tick = rng.randint(-880000, 880000)
        distance = rng.choice([1, -1]) * int(10 ** rng.uniform(0, 3.5))
        price = reference.get_sqrt_ratio_at_tick(tick)
        target = reference.get_sqrt_ratio_at_tick(tick + distance)
        liquidity = int(10 ** rng.uniform(3, 28))
    try:
        step = reference.compute_swap_step(price, target, liquidity, sign * 2**254, fee)
        whole = step.amount_in + step.fee_amount if sign > 0 else step.amount_out
    except reference.Revert:
        whole = edge_integer(rng, 250)
    near = rng.choice([whole + rng.randint(-2, 2), int(whole * rng.random()), 2 * whole])
    if rng.random() < 0.3:
        near = edge_integer(rng, 255)
    remaining = min(max(near, 0), 2**255 - 1)
    return price, target, liquidity, sign * remaining, fee


@dataclass
class PoolLife:
    """A random pool held three times: deployed bytecode, kernels, and Python integers.

    `live` acts on all three and raises AssertionError at the first difference.
    """

    rng: random.Random
    fork: str = "uniswap_v3"
    deployed: DeployedPool | DeployedV4Pool = field(init=False)
    pools: V3Pools = field(init=False)
    model: reference.Pool = field(init=False)
    seen: Counter[str] = field(default_factory=Counter)
    positions: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = self.rng
        v4 = self.fork == "uniswap_v4"
        tiers = list(FORKS["uniswap_v3" if v4 else self.fork].fee_tiers.items())
        odd = (rng.randint(0, 999999), rng.choice([1, 1, 2, 7, 30, 16383]))
        if v4 and rng.random() < 0.1:
            odd = (rng.choice([0, 999_999, 1_000_000]), rng.choice([1, 200, 32767]))
        fee, self.spacing = rng.choice([*tiers, odd])
        price = self._initial_price()
        self.model = reference.Pool.initialized(fee, self.spacing, price)
        self.model.v4 = v4
        if v4:
            self.deployed = DeployedV4Pool.create(fee, self.spacing, price)
            shares = (0, 1, 500, 1000)
        else:
            self.deployed = DeployedPool.create(fee, self.spacing, price, self.fork)
            self.model.protocol_denominator = FORKS[self.fork].protocol_fee_denominator
            shares = (0, 4, 10) if self.fork == "uniswap_v3" else (0, 1000, 4000)
        if rng.random() < 0.5:
            self.model.protocol_share = (rng.choice(shares), rng.choice(shares))
            self.deployed.set_protocol_fee(*self.model.protocol_share)
        snapshot = PoolSnapshot(
            sqrt_price_x96=price,
            tick=self.model.tick,
            liquidity=0,
            fee_pips=fee,
            tick_spacing=self.spacing,
            protocol_fee=self.model.protocol_share,
            fork=UNISWAP_V4 if v4 else FORKS[self.fork].code,
        )
        self.pools = build_pools([snapshot], spare_ticks=64)
        # Amounts of one pool are of one size: 6 to 24 decimals, and absurd ones.
        self.scale = 10 ** rng.uniform(0, 30)

    def _initial_price(self) -> int:
        rng = self.rng
        tick = rng.randint(-100_000, 100_000)
        if rng.random() < 0.3:
            tick = rng.choice([rng.randint(-887272, 887271), -887272, 887271])
        low = reference.get_sqrt_ratio_at_tick(tick)
        high = reference.get_sqrt_ratio_at_tick(tick + 1)
        return low if rng.random() < 0.3 else rng.randrange(low, high)

    def live(self, actions: int) -> None:
        """Do `actions` random things; mints first, or there is nothing to trade with."""
        for action in range(actions):
            kind = self.rng.random()
            if action < 5 or kind < 0.08:
                self._mint()
            elif kind < 0.16 and self.positions:
                self._burn()
            else:
                self._swap()
        ticks = {tick: tuple(entry) for tick, entry in self.model.ticks.items()}
        assert dict(read_pool(self.pools, 0).ticks) == ticks

    def _range(self) -> tuple[int, int]:
        rng, spacing = self.rng, self.spacing
        most = 887272 // spacing
        if rng.random() < 0.1:
            return -most * spacing, most * spacing
        if rng.random() < 0.3 and self.positions:
            # Adjacent positions of equal size leave an initialised tick whose net is 0.
            upper = self.last_upper // spacing
            return upper * spacing, (upper + rng.randint(1, 50)) * spacing
        width = int(10 ** rng.uniform(0, 3.5))
        centre = self.model.tick // spacing + rng.randint(-width, width)
        lower, upper = centre - rng.randint(0, width), centre + rng.randint(1, width)
        if rng.random() < 0.9:
            lower, upper = max(lower, -most), min(upper, most)
        return lower * spacing, upper * spacing

    def _mint(self) -> None:
        rng = self.rng
        lower, upper = self._range()
        amount = int(self.scale * rng.uniform(0.1, 10)) + 1
        if lower == getattr(self, "last_upper", None):
            amount = self.last_amount
        if rng.random() < 0.03:
            amount = 2 ** rng.randint(100, 127)
        if rng.random() < 0.04:
            lower += rng.choice([-1, 1])
        if rng.random() < 0.02:
            lower, upper = upper, lower
        if max(abs(lower), abs(upper)) > MAX_INT24:
            return
        if self._modify("mint", lower, upper, amount):
            self.positions[lower, upper] = self.positions.get((lower, upper), 0) + amount
            self.last_upper, self.last_amount = upper, amount

    def _burn(self) -> None:
        (lower, upper), held = self.rng.choice(list(self.positions.items()))
        amount = self.rng.choice([held, held // 2, 0, min(1, held), 2**127])
        if self._modify("burn", lower, upper, amount):
            self.positions[lower, upper] -= amount
            if not self.positions[lower, upper]:
                del self.positions[lower, upper]

    def _modify(self, kind: str, lower: int, upper: int, amount: int) -> bool:
        delta = amount if kind == "mint" else -amount
        before = copy.deepcopy(self.model)
        try:
            expected = self.model.modify_liquidity(lower, upper, delta)
        except reference.Revert:
            expected, self.model = None, before
        after = self._deployed(kind, lower, upper, amount)
        in_range = lower <= self.model.tick < upper and amount > 0
        self.seen[f"{kind} in range"] += after is not None and in_range
        got = modify_one(self.pools, lower, upper, delta)
        self._compare(kind, (lower, upper, amount), after, expected, got)
        return after is not None

    def _swap(self) -> None:
        zero_for_one = self.rng.random() < 0.5
        amount, limit = self._amount(zero_for_one), self._limit(zero_for_one)
        quoted = swap_one(self.pools, zero_for_one, amount, limit, commit=False)
        steps = 0
        try:
            done = self.model.swap(zero_for_one, amount, limit)
            expected, steps = done[:2], done.steps
        except reference.Revert:
            expected = None
        after = self._deployed("swap", zero_for_one, amount, limit)
        got = swap_one(self.pools, zero_for_one, amount, limit, commit=True)
        assert quoted == got
        self._compare("swap", (zero_for_one, amount, limit), after, expected, got)
        self.seen["several steps"] += steps > 1
        self.seen["zero for one" if zero_for_one else "one for zero"] += after is not None
        self.seen["exact in" if amount > 0 else "exact out"] += after is not None
        self.seen["spacing 1"] += self.spacing == 1 and after is not None
        self.seen["stopped at the limit"] += after is not None and after.sqrt_price == limit
        self.seen[f"fee {self.model.fee_pips}"] += after is not None

    def _limit(self, zero_for_one: bool) -> int:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.45:
            return reference.MIN_SQRT_RATIO + 1 if zero_for_one else reference.MAX_SQRT_RATIO - 1
        if kind > 0.9:
            return rng.randrange(1, 2**160)
        distance = int(10 ** rng.uniform(0, 4.5))
        tick = self.model.tick + (-distance if zero_for_one else distance)
        price = reference.get_sqrt_ratio_at_tick(min(max(tick, -887272), 887272))
        return price + rng.choice([0, 0, 1, -1, 12345])

    def _amount(self, zero_for_one: bool) -> int:
        """Signed as amountSpecified: from dust to far more than the liquidity around the price."""
        rng, price = self.rng, self.model.sqrt_price / 2**96
        size = max(1, self.model.liquidity) * (1 / price if zero_for_one else price)
        amount = int(min(2.0**254, size * 10 ** rng.uniform(-6, 1.5))) + rng.randint(0, 2)
        if rng.random() < 0.05:
            amount = 2 ** rng.randint(0, 255) - rng.randint(0, 1)
        # An int256 reaches 2^255 on its negative side: exact outputs of V3, exact inputs of V4.
        v4 = self.fork == "uniswap_v4"
        if rng.random() < 0.5:
            return -min(amount, 2**255 - v4)
        return min(amount, 2**255 - (not v4))

    def _deployed(self, kind: str, *arguments: int) -> After | None:
        try:
            return getattr(self.deployed, kind)(*arguments)
        except RevertError:
            return None

    def _compare(
        self,
        kind: str,
        arguments: tuple[int, ...],
        after: After | None,
        expected: tuple[int, ...] | None,
        got: tuple[int, int, int],
    ) -> None:
        state = read_pool(self.pools, 0)
        what = f"{self.fork} {kind}{arguments} from {state}"
        self.seen[kind if after else f"{kind} reverted"] += 1
        if after is None:
            assert got[0] != OK, f"only the contract reverts: {what}"
            assert expected is None, f"the model does not revert: {what}"
            return
        assert got == (OK, after.amount0, after.amount1), what
        assert expected == (after.amount0, after.amount1), what
        assert (state.sqrt_price_x96, state.tick, state.liquidity) == after[2:], what
        assert (self.model.sqrt_price, self.model.tick, self.model.liquidity) == after[2:], what
