"""StableSwap exchanges in the EVM: Exchange.vy, compiled by the project's vyper, run by pyrevm.

It is our own writing of two contracts' statements, not their deployed bytecode: no package with
that was found, and their compilers (Vyper 0.2) do not run beside Vyper 0.4.
"""

from functools import cache
from pathlib import Path

from tests.support.uniswap_v2_referee import RevertError
from tests.support.uniswap_v3.referee import Evm

SIGNATURE = "exchange(uint256[],uint256[],uint256[4],uint256,uint256,uint256[2],uint256[3])"


@cache
def _deployed() -> tuple[Evm, str]:
    from vyper.compiler import compile_code

    source = (Path(__file__).parent / "Exchange.vy").read_text()
    code = compile_code(source, output_formats=["bytecode"])["bytecode"]
    evm = Evm()
    return evm, evm.deploy(bytes.fromhex(code.removeprefix("0x")))


def exchange(
    balances: list[int],
    rates: list[int],
    ramp: tuple[int, int, int, int],
    now: int,
    precision: int,
    fees: tuple[int, int],
    trade: tuple[int, int, int],
) -> tuple[int, int, int] | None:
    """(output, balance of i, balance of j) after (i, j, dx); None where the contract reverts."""
    evm, address = _deployed()
    try:
        ((output, sold, bought),) = evm.invoke(
            address, SIGNATURE, ["uint256[3]"], balances, rates, ramp, now, precision, fees, trade
        )
    except RevertError:
        return None
    return output, sold, bought
