"""Uniswap V4's hookless pools against the real PoolManager, and the refusal of everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernels.pools.uniswap_v3.forks import UNISWAP_V4
from kernels.pools.uniswap_v3.state import PoolSnapshot, build_pools
from kernels.pools.uniswap_v3.status import FULL_FEE, OK
from kernels.pools.uniswap_v4 import (
    DYNAMIC_FEE_FLAG,
    PoolKey,
    UnsupportedPoolError,
    check_pool_key,
    hook_permissions,
    v4_snapshot,
)
from tests.kernels.pools.uniswap_v3.test_pool import LOWEST, check_coverage, live
from tests.support.uniswap_v2_referee import RevertError
from tests.support.uniswap_v3 import reference
from tests.support.uniswap_v3.kernels import modify_one, swap_one
from tests.support.uniswap_v3.referee import DeployedV4Pool

KEY = PoolKey(currency0=0, currency1=0xA0B8, fee=3000, tick_spacing=60, hooks=0)
PIPS = 1_000_000
INVALID_FEE_FOR_EXACT_OUT = "0x96206246"
PRICE = reference.get_sqrt_ratio_at_tick(0)


def test_pools_equal_the_deployed_manager() -> None:
    check_coverage(live("uniswap_v4", seed=1, swaps=500), "uniswap_v4", 500)


@pytest.mark.exhaustive
def test_pools_equal_the_deployed_manager_exhaustively() -> None:
    seen = live("uniswap_v4", seed=2, swaps=5000)
    print(f"uniswap_v4: 0 mismatches in {dict(seen)}")
    check_coverage(seen, "uniswap_v4", 5000)


@pytest.mark.parametrize("protocol", [(0, 0), (1, 1000), (1000, 0), (333, 777)])
@pytest.mark.parametrize("fee", [0, 1, 500, 3000, 999_999])
def test_protocol_fee_moves_the_price(protocol: tuple[int, int], fee: int) -> None:
    """Every fee composition against the manager: it is rounded up where the product is cut, so that
    a share on top of 999999 pips makes 100 %, at which nothing can be bought exactly."""
    deployed = DeployedV4Pool.create(fee, 60, PRICE)
    deployed.set_protocol_fee(*protocol)
    deployed.mint(-600, 600, 10**18)
    snapshot = v4_snapshot(replace(KEY, fee=fee), PRICE, 0, 0, {}, protocol[1] << 12 | protocol[0])
    pools = build_pools([snapshot])
    assert modify_one(pools, -600, 600, 10**18)[0] == OK
    for zero_for_one in (True, False):
        for amount in (10**15, -(10**12)):
            limit = LOWEST if zero_for_one else 2**100
            got = swap_one(pools, zero_for_one, amount, limit, commit=True)
            share = protocol[0 if zero_for_one else 1]
            if amount < 0 and share + fee - share * fee // PIPS == PIPS:
                with pytest.raises(RevertError, match=INVALID_FEE_FOR_EXACT_OUT):
                    deployed.swap(zero_for_one, amount, limit)
                assert got == (FULL_FEE, 0, 0)
                continue
            after = deployed.swap(zero_for_one, amount, limit)
            assert got == (OK, after.amount0, after.amount1)


def test_fee_of_100_percent_takes_the_input_and_sells_nothing() -> None:
    deployed = DeployedV4Pool.create(1_000_000, 60, PRICE)
    deployed.mint(-600, 600, 10**18)
    pools = build_pools([PoolSnapshot(PRICE, 0, 0, 1_000_000, 60, fork=UNISWAP_V4)])
    assert modify_one(pools, -600, 600, 10**18)[0] == OK
    after = deployed.swap(True, 12345, LOWEST)
    assert (after.amount0, after.amount1) == (12345, 0)
    assert swap_one(pools, True, 12345, LOWEST, True) == (OK, 12345, 0)
    assert swap_one(pools, True, -1, LOWEST, True)[0] == FULL_FEE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hooks": 1 << 7}, r"hooks = 0x0{37}080 \(beforeSwap\): pools with hooks are not"),
        ({"hooks": 0xCC}, "beforeSwap, afterSwap, beforeSwapReturnsDelta, afterSwapReturnsDelta"),
        ({"hooks": 1 << 100}, "no permissions"),
        ({"fee": DYNAMIC_FEE_FLAG}, "fee = 0x800000: pools with a dynamic fee are not supported"),
        ({"fee": 0x100000}, "fee = 0x100000: pools with a dynamic fee are not supported"),
        ({"fee": 0x400000 | 3000}, "fee = 0x400bb8: pools with a dynamic fee are not supported"),
        ({"fee": 1_000_001}, "fee = 1000001: expected 0..1000000"),
        ({"fee": -1}, "fee = -1: expected 0..1000000"),
        ({"currency1": 0}, "expected two addresses in ascending order"),
    ],
)
def test_what_the_kernels_cannot_represent_is_refused_by_name(change: dict, message: str) -> None:
    with pytest.raises(UnsupportedPoolError, match=message):
        v4_snapshot(replace(KEY, **change), PRICE, 0, 0, {})


def test_impossible_protocol_fee_is_refused() -> None:
    for packed in (1001, 1001 << 12, -1):
        with pytest.raises(UnsupportedPoolError, match="at most 1000 pips a side"):
            v4_snapshot(KEY, PRICE, 0, 0, {}, packed)
    check_pool_key(KEY)


def test_hook_permissions_are_the_low_bits() -> None:
    assert hook_permissions(0x2000) == ["beforeInitialize"]
    assert hook_permissions(0x1) == ["afterRemoveLiquidityReturnsDelta"]
    assert len(hook_permissions(0x3FFF)) == 14
    assert hook_permissions(1 << 14) == []
