"""The EVM as referee: v3-core's libraries compiled by solc 0.7.6 and the deployed pool bytecode of
Uniswap V3 and PancakeSwap V3, run in process by pyrevm. Nothing here knows the kernels."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode

from devnet import artifacts
from history.files import write_atomically
from tests.support import uniswap_v2_referee as referee

HERE = Path(__file__).parent
GAS = 2**50  # spacing 1 over the whole tick range takes 7,000 bitmap words

POOL_BYTECODE = {
    "uniswap_v3": "@uniswap/v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json",
    "pancake_v3": "@pancakeswap/v3-core/artifacts/contracts/PancakeV3Pool.sol/PancakeV3Pool.json",
}

COMPILE = """
const fs = require('fs');
const path = require('path');
const solc = require('solc');
const found = (name) => ({contents: fs.readFileSync(path.join('node_modules', name), 'utf8')});
process.stdout.write(solc.compile(fs.readFileSync(0, 'utf8'), {import: found}));
"""


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


def npm_json(path: str) -> dict[str, Any]:
    return json.loads((node_modules() / path).read_bytes())


def bytecode(path: str) -> bytes:
    """Creation code of a hardhat or foundry artifact."""
    code = npm_json(path)["bytecode"]
    return bytes.fromhex((code["object"] if isinstance(code, dict) else code).removeprefix("0x"))


@cache
def compiled(source: str = "Referee.sol") -> dict[str, bytes]:
    """Creation code of each contract in `source`, compiled by solc 0.7.6 (cached by content)."""
    text = (HERE / source).read_text()
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = artifacts.cache_folder() / f"{Path(source).stem}-{key}.json"
    if not path.is_file():
        output = json.loads(_run_solc(source, text))
        problems = [e["formattedMessage"] for e in output.get("errors", [])]
        assert not [p for p in problems if "Error" in p], "\n".join(problems)
        code = {
            name: contract["evm"]["bytecode"]["object"]
            for name, contract in output["contracts"][source].items()
        }
        write_atomically(path, json.dumps(code))
    return {name: bytes.fromhex(code) for name, code in json.loads(path.read_bytes()).items()}


def _run_solc(source: str, text: str) -> str:
    settings = {
        "language": "Solidity",
        "sources": {source: {"content": text}},
        "settings": {
            "optimizer": {"enabled": True, "runs": 200},
            "outputSelection": {"*": {"*": ["evm.bytecode.object"]}},
        },
    }
    node, _ = artifacts._node_and_npm()
    return subprocess.run(
        [node, "-e", COMPILE],
        input=json.dumps(settings),
        cwd=node_modules().parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout


@cache
def _types(signature: str) -> list[str]:
    arguments = signature[signature.index("(") + 1 : -1]
    return arguments.split(",") if arguments else []


class Evm(referee.Evm):
    """One in-process chain, with calls by signature and more gas than a block has."""

    def invoke(self, to: str, signature: str, returns: list[str], *values: Any) -> tuple[Any, ...]:
        """Call `signature` and decode what it returns; raises RevertError."""
        data = referee.selector(signature) + encode(_types(signature), values)
        try:
            output = self.machine.message_call(referee.CALLER, to, data, gas=GAS)
        except RuntimeError as error:
            # Anything else, running out of gas for one, would be a fault of the harness.
            if "Revert" not in str(error):
                raise
            raise referee.RevertError(str(error)) from None
        return decode(returns, output)


class Libraries:
    """v3-core's libraries; called by name, None where the contract reverts."""

    SIGNATURES = {  # noqa: RUF012
        "mulDiv": ("uint256,uint256,uint256", ["uint256"]),
        "mulDivRoundingUp": ("uint256,uint256,uint256", ["uint256"]),
        "getSqrtRatioAtTick": ("int24", ["uint160"]),
        "getTickAtSqrtRatio": ("uint160", ["int24"]),
        "nextPriceFromInput": ("uint160,uint128,uint256,bool", ["uint160"]),
        "nextPriceFromOutput": ("uint160,uint128,uint256,bool", ["uint160"]),
        "amount0Delta": ("uint160,uint160,uint128,bool", ["uint256"]),
        "amount1Delta": ("uint160,uint160,uint128,bool", ["uint256"]),
        "computeSwapStep": (
            "uint160,uint160,uint128,int256,uint24",
            ["uint160", "uint256", "uint256", "uint256"],
        ),
        "addDelta": ("uint128,int128", ["uint128"]),
        "maxLiquidityPerTick": ("int24", ["uint128"]),
    }

    def __init__(self) -> None:
        self.evm = Evm()
        self.address = self.evm.deploy(compiled()["Libraries"])

    def __call__(self, name: str, *values: Any) -> tuple[int, ...] | None:
        """Return values of library function `name`, or None when it reverts."""
        types, returns = self.SIGNATURES[name]
        try:
            return self.evm.invoke(self.address, f"{name}({types})", returns, *values)
        except referee.RevertError:
            return None


class After(NamedTuple):
    """A pool after a call: amounts paid to the pool (negative: paid by it) and its state."""

    amount0: int
    amount1: int
    sqrt_price: int
    tick: int
    liquidity: int


@dataclass
class DeployedPool:
    """The real pool contract of a fork with any fee and spacing. Raises RevertError."""

    evm: Evm
    trader: str
    address: str
    fork: str

    @classmethod
    def create(
        cls, fee_pips: int, tick_spacing: int, sqrt_price: int, fork: str = "uniswap_v3"
    ) -> DeployedPool:
        evm = Evm()
        trader = evm.deploy(compiled()["Trader"])
        code = bytecode(POOL_BYTECODE[fork])
        (address,) = evm.invoke(
            trader,
            "deploy(bytes,uint24,int24,uint160)",
            ["address"],
            code,
            fee_pips,
            tick_spacing,
            sqrt_price,
        )
        return cls(evm, trader, address, fork)

    def _act(self, signature: str, *values: Any) -> After:
        types = ["int256", "int256", "uint160", "int24", "uint128"]
        return After(*self.evm.invoke(self.trader, signature, types, self.address, *values))

    def mint(self, lower: int, upper: int, amount: int) -> After:
        return self._act("mint(address,int24,int24,uint128)", lower, upper, amount)

    def burn(self, lower: int, upper: int, amount: int) -> After:
        return self._act("burn(address,int24,int24,uint128)", lower, upper, amount)

    def swap(self, zero_for_one: bool, amount_specified: int, limit: int) -> After:
        return self._act("swap(address,bool,int256,uint160)", zero_for_one, amount_specified, limit)

    def set_protocol_fee(self, token0: int, token1: int) -> None:
        kind = "uint8" if self.fork == "uniswap_v3" else "uint32"
        self.evm.invoke(self.address, f"setFeeProtocol({kind},{kind})", [], token0, token1)

    def storage(self, slot: int) -> int:
        return self.evm.read(self.address, slot)


@dataclass
class DeployedV4Pool:
    """A pool of the real V4 PoolManager with the face of DeployedPool. Raises RevertError."""

    evm: Evm
    trader: str

    @classmethod
    def create(cls, fee_pips: int, tick_spacing: int, sqrt_price: int) -> DeployedV4Pool:
        evm = Evm()
        trader = evm.deploy(compiled("RefereeV4.sol")["Trader"])
        code = bytecode("@uniswap/v4-core/out/PoolManager.sol/PoolManager.json")
        signature = "deploy(bytes,uint24,int24,uint160)"
        evm.invoke(trader, signature, [], code, fee_pips, tick_spacing, sqrt_price)
        return cls(evm, trader)

    def _act(self, signature: str, *values: Any) -> After:
        # The lock of the PoolManager is transient storage, which ends with a transaction.
        self.evm.machine.reset_transient_storage()
        types = ["int256", "int256", "uint160", "int24", "uint128"]
        return After(*self.evm.invoke(self.trader, signature, types, *values))

    def mint(self, lower: int, upper: int, amount: int) -> After:
        return self._act("modify(int24,int24,int256)", lower, upper, amount)

    def burn(self, lower: int, upper: int, amount: int) -> After:
        return self._act("modify(int24,int24,int256)", lower, upper, -amount)

    def swap(self, zero_for_one: bool, amount_specified: int, limit: int) -> After:
        """`amount_specified` is signed as in V3; V4 has it the other way round."""
        return self._act("swap(bool,int256,uint160)", zero_for_one, -amount_specified, limit)

    def set_protocol_fee(self, zero_for_one: int, one_for_zero: int) -> None:
        packed = one_for_zero << 12 | zero_for_one
        self.evm.invoke(self.trader, "setProtocolFee(uint24)", [], packed)
