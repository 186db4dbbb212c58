"""The referee of the Uniswap V2 kernels: the deployed bytecode itself, run in process by pyrevm.

Reserves and balances are written straight into storage, so that any state is one call away.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pyrevm
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from devnet.artifacts import artifact

CALLER = "0x" + "11" * 20
RECIPIENT = "0x" + "22" * 20
GAS = 30_000_000
RESERVES_SLOT = 8  # UniswapV2Pair: reserve0, reserve1, blockTimestampLast in one word
BALANCES_SLOT = 3  # WETH9: balanceOf
ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)
REVERT_OUTPUT = "output: 0x"


@cache
def selector(signature: str) -> bytes:
    """First four bytes of the keccak of a function signature."""
    return keccak(text=signature)[:4]


@cache
def balance_slot(holder: str) -> int:
    """Storage slot of a WETH9 balance."""
    key = bytes.fromhex(holder[2:]).rjust(32, b"\0") + words(BALANCES_SLOT)
    return int.from_bytes(keccak(key), "big")


def words(*integers: int) -> bytes:
    """ABI encoding of uint256 arguments."""
    return b"".join(integer.to_bytes(32, "big") for integer in integers)


class RevertError(Exception):
    """A call reverted; `reason` is the contract's string, empty when it gave none."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Evm:
    """An empty chain in process, with deploy and call."""

    def __init__(self) -> None:
        self.machine: Any = pyrevm.EVM(gas_limit=2**62)
        self.machine.set_balance(CALLER, 10**30)

    def deploy(self, bytecode: bytes, types: Sequence[str] = (), values: Sequence = ()) -> str:
        """Run creation code with its constructor arguments and return the address."""
        return self.machine.deploy(CALLER, bytecode + encode(list(types), list(values)))

    def call(self, to: str, data: bytes) -> bytes:
        """Call `to`, keep the state it leaves, return its output; raises RevertError."""
        try:
            return bytes(self.machine.message_call(CALLER, to, data, gas=GAS))
        except RuntimeError as error:
            text = str(error)
            at = text.find(REVERT_OUTPUT)
            if at < 0 and not text.startswith("Halt"):
                raise
            output = bytes.fromhex(text[at + len(REVERT_OUTPUT) :].rstrip(" }")) if at >= 0 else b""
            # Error(string): the length stands in the second word after the selector.
            length = int.from_bytes(output[36:68], "big") if output[:4] == ERROR_SELECTOR else 0
            raise RevertError(output[68 : 68 + length].decode()) from error

    def write(self, address: str, slot: int, value: int) -> None:
        """Set one storage word."""
        self.machine.insert_account_storage(address, slot, value)

    def read(self, address: str, slot: int) -> int:
        """Read one storage word."""
        return self.machine.storage(address, slot)


class UniswapV2:
    """Factory, Router02 and one pair per pair of tokens; tokens are WETH9 contracts.

    `charged0`, `charged1` and `denominator` are the fees of a fork: 3, 3 and 1000 is Uniswap
    itself, anything else replaces these constants in the pair's bytecode and nothing more.
    """

    def __init__(
        self, tokens: int = 2, charged0: int = 3, charged1: int = 3, denominator: int = 1000
    ) -> None:
        self.evm = Evm()
        factory_code = artifact("UniswapV2Factory").bytecode
        pair_code = artifact("UniswapV2Pair").bytecode
        forked = fork_pair(pair_code, charged0, charged1, denominator)
        self.factory = self.evm.deploy(
            factory_code.replace(pair_code, forked), ["address"], [CALLER]
        )
        self.router = self.evm.deploy(
            artifact("UniswapV2Router02").bytecode, ["address"] * 2, [self.factory, CALLER]
        )
        weth = artifact("WETH9").bytecode
        self.tokens = [self.evm.deploy(weth) for _ in range(tokens)]
        self.pairs: dict[tuple[int, int], str] = {}
        for first in range(tokens):
            for second in range(first + 1, tokens):
                pair = [self.tokens[first], self.tokens[second]]
                data = selector("createPair(address,address)") + encode(["address"] * 2, pair)
                self.pairs[first, second] = "0x" + self.evm.call(self.factory, data)[-20:].hex()

    def is_token0(self, token: int, other: int) -> bool:
        """True when `token` is token0 of its pair with `other`: pairs sort by address."""
        return int(self.tokens[token], 16) < int(self.tokens[other], 16)

    def pair(self, token: int, other: int) -> str:
        """Address of the pair of two tokens given by index, in either order."""
        return self.pairs[min(token, other), max(token, other)]

    def set_reserves(self, token: int, other: int, reserve: int, other_reserve: int) -> None:
        """Write the reserves of the pair, each below 2^112, given in the order of the tokens."""
        if not self.is_token0(token, other):
            reserve, other_reserve = other_reserve, reserve
        self.evm.write(self.pair(token, other), RESERVES_SLOT, reserve | other_reserve << 112)

    def set_balance(self, token: int, holder: str, amount: int) -> None:
        """Write a token balance."""
        self.evm.write(self.tokens[token], balance_slot(holder), amount)

    def get_amount_out(self, amount_in: int, reserve_in: int, reserve_out: int) -> int:
        """UniswapV2Router02.getAmountOut."""
        data = selector("getAmountOut(uint256,uint256,uint256)")
        output = self.evm.call(self.router, data + words(amount_in, reserve_in, reserve_out))
        return int.from_bytes(output, "big")

    def get_amount_in(self, amount_out: int, reserve_in: int, reserve_out: int) -> int:
        """UniswapV2Router02.getAmountIn."""
        data = selector("getAmountIn(uint256,uint256,uint256)")
        output = self.evm.call(self.router, data + words(amount_out, reserve_in, reserve_out))
        return int.from_bytes(output, "big")

    def get_amounts_out(self, amount_in: int, path: Sequence[int]) -> list[int]:
        """UniswapV2Router02.getAmountsOut along the tokens of `path`, through stored reserves."""
        data = selector("getAmountsOut(uint256,address[])") + words(amount_in, 64, len(path))
        data += b"".join(bytes.fromhex(self.tokens[token][2:]).rjust(32, b"\0") for token in path)
        output = self.evm.call(self.router, data)[64:]
        return [int.from_bytes(output[at : at + 32], "big") for at in range(0, len(output), 32)]

    def swap(
        self, reserves: tuple[int, int], amounts_in: tuple[int, int], amounts_out: tuple[int, int]
    ) -> tuple[int, int]:
        """UniswapV2Pair.swap on the first pair, all given as (token0, token1): new reserves.

        The amounts in are in the pair before the call. Raises RevertError.
        """
        pair = self.pair(0, 1)
        ordered = (0, 1) if self.is_token0(0, 1) else (1, 0)
        for token, reserve, amount in zip(ordered, reserves, amounts_in, strict=True):
            self.set_balance(token, pair, reserve + amount)
            self.set_balance(token, RECIPIENT, 0)
        self.evm.write(pair, RESERVES_SLOT, reserves[0] | reserves[1] << 112)
        data = selector("swap(uint256,uint256,address,bytes)")
        data += words(*amounts_out, int(RECIPIENT, 16), 128, 0)
        self.evm.call(pair, data)
        packed = self.evm.read(pair, RESERVES_SLOT)
        return packed % 2**112, (packed >> 112) % 2**112


def fork_pair(bytecode: bytes, charged0: int, charged1: int, denominator: int) -> bytes:
    """UniswapV2Pair with other fee constants in `balance.mul(1000).sub(amountIn.mul(3))`.

    Charges must be below 2^8 and the denominator's square below 2^24: the widths of the constants.
    """
    push_charge = bytes.fromhex("84600363ffffffff")
    push_denominator = bytes.fromhex("876103e863ffffffff")
    push_square = bytes.fromhex("620f4240")
    counts = [bytecode.count(code) for code in (push_charge, push_denominator, push_square)]
    if counts != [2, 1, 1]:
        raise ValueError(f"fee constants found {counts} times, expected [2, 1, 1]: other compiler?")
    first, second, last = bytecode.split(push_charge)
    charges = [bytes([0x84, 0x60, charge]) + push_charge[3:] for charge in (charged0, charged1)]
    forked = first + charges[0] + second + charges[1] + last
    width = b"\x87\x61" + denominator.to_bytes(2, "big") + push_denominator[4:]
    square = b"\x62" + (denominator * denominator).to_bytes(3, "big")
    return forked.replace(push_denominator, width).replace(push_square, square)
