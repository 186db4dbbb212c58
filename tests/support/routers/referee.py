"""The deployed routers over real V2, V3 and V4 pools, in process: which swaps a call makes is read
from the pools' events. Nothing here knows the decoder."""

import hashlib
import json
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from devnet import artifacts
from devnet.artifacts import artifact
from tests.support.uniswap_v2_referee import CALLER, GAS, Evm, balance_slot, selector

HERE = Path(__file__).parent
UNIVERSAL_ROUTER = "universal-router-{version}/artifacts/contracts/UniversalRouter.sol"
SWAP_ROUTER_02 = "@uniswap/swap-router-contracts/artifacts/contracts/SwapRouter02.sol"
V4 = "@uniswap/v4-core/out"
# permit2, weth9, V2 and V3 factories, the hashes of their pools' code, PoolManager, the position
# managers of V3 and V4, and from 2.1 on a bridge.
PARAMETERS = {
    "2.0": "(address,address,address,address,bytes32,bytes32,address,address,address)",
    "2.1": "(address,address,address,address,bytes32,bytes32,address,address,address,address)",
}
POSITION = "(address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256)"
POOL_KEY = "(address,address,uint24,int24,address)"
NOBODY = "0x" + "00" * 20
PRICE_ONE = 1 << 96
FUNDS = 10**30
LIQUIDITY = 10**22
FOREVER = 2**255
# (fee, tick spacing) of the pools between any two tokens.
V3_POOLS = ((500, 10), (3000, 60))
V4_POOLS = ((0, 1), (450, 9), (3000, 60))

V2_SWAP = keccak(text="Swap(address,uint256,uint256,uint256,uint256,address)")
V3_SWAP = keccak(text="Swap(address,address,int256,int256,uint160,uint128,int24)")
V4_SWAP = keccak(text="Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)")


class PoolSwap(NamedTuple):
    """One Swap event: the pool (V4: its id), and what went in and came out."""

    pool: str
    zero_for_one: bool
    paid: int
    received: int


@cache
def node_modules() -> Path:
    """node_modules of package.json beside this file, installed in the user's cache at first use."""
    manifest = (HERE / "package.json").read_bytes()
    root = artifacts.cache_folder()
    folder = root / f"npm-{hashlib.sha256(manifest).hexdigest()[:16]}"
    if not folder.is_dir():
        with artifacts._locked(root / "npm.lock"):
            if not folder.is_dir():
                artifacts._install(manifest, folder)
    return folder / "node_modules"


def creation_code(folder: str, name: str) -> bytes:
    """Creation code of a hardhat or foundry artifact."""
    code = json.loads((node_modules() / folder / f"{name}.json").read_bytes())["bytecode"]
    return bytes.fromhex((code["object"] if isinstance(code, dict) else code).removeprefix("0x"))


def pool_id(first: str, second: str, fee_pips: int, tick_spacing: int) -> str:
    """Id of a V4 pool without hooks; the currencies in either order."""
    low, high = sorted((first, second), key=lambda text: int(text, 16))
    return "0x" + keccak(encode([POOL_KEY], [(low, high, fee_pips, tick_spacing, NOBODY)])).hex()


class RouterWorld:
    """Four tokens, pools of all three protocols between any two, and routers.

    The first token is the wrapped native one. `router`, the Universal Router of `version`, holds
    plenty of each itself; the others take them from the caller.
    """

    def __init__(self, version: str) -> None:
        self.evm = Evm()
        weth = artifact("WETH9").bytecode
        deployed = [self.evm.deploy(weth) for _ in range(4)]
        self.tokens = sorted(deployed, key=lambda text: int(text, 16))
        self.pairs: dict[frozenset[str], str] = {}
        self.v3_pools: dict[tuple[frozenset[str], int], str] = {}
        self._v2()
        self._v3()
        self._v4()
        hashes = [keccak(artifact(name).bytecode) for name in ("UniswapV2Pair", "UniswapV3Pool")]
        parameters = (NOBODY, self.tokens[0], self.factory, self.v3_factory, *hashes, self.manager)
        missing = PARAMETERS[version].count(",") + 1 - len(parameters)
        self.router = self.evm.deploy(
            creation_code(UNIVERSAL_ROUTER.format(version=version), "UniversalRouter"),
            [PARAMETERS[version]],
            [(*parameters, *[NOBODY] * missing)],
        )
        for token in self.tokens:
            self.evm.write(token, balance_slot(self.router), FUNDS)
        self.evm.machine.set_balance(self.tokens[0], FUNDS)

    def swap_routers(self) -> tuple[str, str, str]:
        """Router02, SwapRouter and SwapRouter02, which may take what the caller has."""
        weth = self.tokens[0]
        deployed = (
            self.evm.deploy(
                artifact("UniswapV2Router02").bytecode, ["address"] * 2, [self.factory, weth]
            ),
            self.evm.deploy(
                artifact("SwapRouter").bytecode, ["address"] * 2, [self.v3_factory, weth]
            ),
            self.evm.deploy(
                creation_code(SWAP_ROUTER_02, "SwapRouter02"),
                ["address"] * 4,
                [self.factory, self.v3_factory, self.position_manager, weth],
            ),
        )
        for router in deployed:
            self._fund(router)
        return deployed

    def _invoke(self, to: str, signature: str, values: list[Any]) -> bytes:
        self.evm.machine.reset_transient_storage()
        inside = signature[signature.index("(") + 1 : -1]
        types = [inside] if inside.startswith("(") and inside.endswith(")") else _split(inside)
        return self.evm.call(to, selector(signature) + encode(types, values))

    def _v2(self) -> None:
        self.factory = self.evm.deploy(artifact("UniswapV2Factory").bytecode, ["address"], [CALLER])
        for low, high in combinations(self.tokens, 2):
            output = self._invoke(self.factory, "createPair(address,address)", [low, high])
            pair = "0x" + output[-20:].hex()
            for token in (low, high):
                self.evm.write(token, balance_slot(pair), LIQUIDITY)
            self._invoke(pair, "mint(address)", [CALLER])
            self.pairs[frozenset((low, high))] = pair

    def _v3(self) -> None:
        self.v3_factory = self.evm.deploy(artifact("UniswapV3Factory").bytecode)
        arguments = [self.v3_factory, self.tokens[0], self.tokens[0]]
        manager = self.evm.deploy(
            artifact("NonfungiblePositionManager").bytecode, ["address"] * 3, arguments
        )
        self.position_manager = manager
        self._fund(manager)
        create = "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"
        for low, high in combinations(self.tokens, 2):
            for fee, spacing in V3_POOLS:
                output = self._invoke(manager, create, [low, high, fee, PRICE_ONE])
                self.v3_pools[frozenset((low, high)), fee] = "0x" + output[-20:].hex()
                ends = (-100 * spacing, 100 * spacing)
                values = (low, high, fee, *ends, LIQUIDITY, LIQUIDITY, 0, 0, CALLER, FOREVER)
                self._invoke(manager, f"mint({POSITION})", [values])

    def _v4(self) -> None:
        self.manager = self.evm.deploy(
            creation_code(f"{V4}/PoolManager.sol", "PoolManager"), ["address"], [CALLER]
        )
        lender = self.evm.deploy(
            creation_code(f"{V4}/PoolModifyLiquidityTest.sol", "PoolModifyLiquidityTest"),
            ["address"],
            [self.manager],
        )
        self._fund(lender)
        change = "(int24,int24,int256,bytes32)"
        for low, high in combinations(self.tokens, 2):
            for fee, spacing in V4_POOLS:
                key = (low, high, fee, spacing, NOBODY)
                self._invoke(self.manager, f"initialize({POOL_KEY},uint160)", [key, PRICE_ONE])
                position = (-600 * spacing, 600 * spacing, LIQUIDITY, bytes(32))
                self._invoke(
                    lender, f"modifyLiquidity({POOL_KEY},{change},bytes)", [key, position, b""]
                )

    def _fund(self, spender: str) -> None:
        """Give the caller tokens that `spender` may take."""
        for token in self.tokens:
            self.evm.write(token, balance_slot(CALLER), FUNDS)
            self._invoke(token, "approve(address,uint256)", [spender, FOREVER])

    def swaps_of(self, router: str, data: bytes, value: int = 0) -> list[PoolSwap]:
        """Send `data` to a router: the swaps that pools made, in order. Raises RuntimeError."""
        machine = self.evm.machine
        machine.reset_transient_storage()
        machine.message_call(CALLER, router, data, value=value, gas=GAS)
        return [swap for log in machine.result.logs if (swap := _swap_of(log))]


def _split(types: str) -> list[str]:
    """Top-level members of a comma-separated list of types."""
    members, depth, last = [], 0, 0
    for at, character in enumerate(types):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            members.append(types[last:at])
            last = at + 1
    return [*members, types[last:]] if types else []


def _swap_of(log: Any) -> PoolSwap | None:
    """The swap that a log tells of, None for any other log."""
    topics, data = log.data
    if topics[0] == V2_SWAP:
        in0, in1, out0, out1 = decode(["uint256"] * 4, data)
        return PoolSwap(log.address.lower(), in0 > 0, in0 or in1, out0 or out1)
    if topics[0] == V3_SWAP:
        amount0, amount1, *_ = decode(["int256", "int256", "uint160", "uint128", "int24"], data)
        paid, received = max(amount0, amount1), -min(amount0, amount1)
        return PoolSwap(log.address.lower(), amount0 > 0, paid, received)
    if topics[0] == V4_SWAP:
        types = ["int128", "int128", "uint160", "uint128", "int24", "uint24"]
        amount0, amount1, *_ = decode(types, data)
        # V4 signs amounts from the swapper's side.
        paid, received = -min(amount0, amount1), max(amount0, amount1)
        return PoolSwap("0x" + topics[1].hex(), amount0 < 0, paid, received)
    return None
