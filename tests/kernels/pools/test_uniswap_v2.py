"""V2 quotes and swaps against the deployed Router02 and Pair bytecode, reverts included."""

from collections.abc import Callable, Sequence
from math import gcd
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compile import kernel
from kernels.numbers.u256 import Limbs, from_limbs, load128, mul_div_128, store256, to_limbs
from kernels.pools.uniswap_v2 import (
    ABOVE_128_BITS,
    DIVISION_BY_ZERO,
    INSUFFICIENT_INPUT_AMOUNT,
    INSUFFICIENT_LIQUIDITY,
    INSUFFICIENT_OUTPUT_AMOUNT,
    INVALID_FEE,
    MUL_OVERFLOW,
    OK,
    OVERFLOW,
    REVERT_REASONS,
    SUB_UNDERFLOW,
    K,
    quote_in_batch,
    quote_out_batch,
    swap_batch,
)
from tests.support.uniswap_v2_referee import RevertError, UniswapV2

UNISWAP = (997, 1000)
FEES = (UNISWAP, (9975, 10_000), (9900, 10_000), (99_700, 100_000), (998, 1000), (1, 1), (0, 7))
E18 = 10**18


def quotes_out(
    amounts: Sequence[int],
    reserves_in: Sequence[int],
    reserves_out: Sequence[int],
    fees: Sequence[tuple[int, int]],
) -> list[tuple[int, int]]:
    """`quote_out_batch` on Python integers: (status, output) of each."""
    amount_out = np.full((len(amounts), 2), 7, dtype=np.uint64)
    status = np.full(len(amounts), 99, dtype=np.int8)
    numerator, denominator = np.array(fees, dtype=np.int64).reshape(-1, 2).T.copy()
    quote_out_batch(
        to_limbs(reserves_in, 2),
        to_limbs(reserves_out, 2),
        numerator,
        denominator,
        to_limbs(amounts, 2),
        amount_out,
        status,
    )
    return list(zip(status.tolist(), from_limbs(amount_out), strict=True))


def quotes_in(
    amounts: Sequence[int],
    reserves_in: Sequence[int],
    reserves_out: Sequence[int],
    fees: Sequence[tuple[int, int]],
) -> list[tuple[int, int]]:
    """`quote_in_batch` on Python integers: (status, input) of each."""
    amount_in = np.full((len(amounts), 2), 7, dtype=np.uint64)
    status = np.full(len(amounts), 99, dtype=np.int8)
    numerator, denominator = np.array(fees, dtype=np.int64).reshape(-1, 2).T.copy()
    quote_in_batch(
        to_limbs(reserves_in, 2),
        to_limbs(reserves_out, 2),
        numerator,
        denominator,
        to_limbs(amounts, 2),
        amount_in,
        status,
    )
    return list(zip(status.tolist(), from_limbs(amount_in), strict=True))


def swaps(
    reserves: Sequence[tuple[int, int]],
    amounts_in: Sequence[tuple[int, int]],
    amounts_out: Sequence[tuple[int, int]],
    fees: Sequence[tuple[int, int, int]],
) -> list[tuple[int, tuple[int, int]]]:
    """`swap_batch` on Python integers: (status, (reserve0, reserve1)) of each."""
    state, sent, wanted = (
        to_limbs([amount for pair in pairs for amount in pair], 2).reshape(-1, 4)
        for pairs in (reserves, amounts_in, amounts_out)
    )
    status = np.full(len(reserves), 99, dtype=np.int8)
    swap_batch(state, sent, wanted, np.array(fees, dtype=np.int64).reshape(-1, 3), status)
    flat = from_limbs(state.reshape(-1, 2))
    return list(zip(status.tolist(), zip(flat[::2], flat[1::2], strict=True), strict=True))


def model_out(amount: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]) -> int:
    charged = amount * fee[0]
    return charged * reserve_out // (reserve_in * fee[1] + charged)


def model_in(amount: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]) -> int:
    return reserve_in * amount * fee[1] // ((reserve_out - amount) * fee[0]) + 1


@pytest.mark.parametrize(
    ("amount_in", "reserve_in", "reserve_out", "expected"),
    [  # UniswapV2Pair.spec.ts, in units of 1e18
        (1, 5, 10, 1662497915624478906),
        (1, 10, 5, 453305446940074565),
        (2, 5, 10, 2851015155847869602),
        (2, 10, 5, 831248957812239453),
        (1, 10, 10, 906610893880149131),
        (1, 100, 100, 987158034397061298),
        (1, 1000, 1000, 996006981039903216),
    ],
)
def test_published_vectors(
    amount_in: int, reserve_in: int, reserve_out: int, expected: int
) -> None:
    amount, reserves = amount_in * E18, (reserve_in * E18, reserve_out * E18)
    assert quotes_out([amount], [reserves[0]], [reserves[1]], [UNISWAP]) == [(OK, expected)]
    for wanted, status in ((expected, OK), (expected + 1, K)):
        assert swaps([reserves], [(amount, 0)], [(0, wanted)], [(997, 997, 1000)])[0][0] == status


def sizes(bits: int) -> st.SearchStrategy[int]:
    """Amounts of every length up to `bits`, crowded at powers of two."""
    any_length = st.integers(0, bits).flatmap(lambda width: st.integers(0, (1 << width) - 1))
    edges = st.tuples(st.integers(0, bits), st.integers(-2, 2)).map(
        lambda pair: min(max((1 << pair[0]) + pair[1], 0), (1 << bits) - 1)
    )
    return any_length | edges


QUOTES = st.lists(
    st.tuples(sizes(128), sizes(128), sizes(128), st.sampled_from(FEES)), min_size=1, max_size=80
)


@settings(max_examples=150)
@given(QUOTES)
def test_get_amount_out_equals_integers_over_128_bits(
    cases: list[tuple[int, int, int, tuple[int, int]]],
) -> None:
    for case, (status, amount) in zip(cases, quotes_out(*zip(*cases)), strict=True):
        amount_in, reserve_in, reserve_out, fee = case
        if amount_in == 0:
            assert (status, amount) == (INSUFFICIENT_INPUT_AMOUNT, 0)
        elif reserve_in == 0 or reserve_out == 0:
            assert (status, amount) == (INSUFFICIENT_LIQUIDITY, 0)
        elif amount_in * fee[0] * reserve_out >> 256:
            assert (status, amount) == (MUL_OVERFLOW, 0)
        else:
            assert (status, amount) == (OK, model_out(*case)), case
            assert amount < reserve_out


@settings(max_examples=150)
@given(QUOTES)
def test_get_amount_in_equals_integers_over_128_bits(
    cases: list[tuple[int, int, int, tuple[int, int]]],
) -> None:
    for case, (status, amount) in zip(cases, quotes_in(*zip(*cases)), strict=True):
        amount_out, reserve_in, reserve_out, fee = case
        if amount_out == 0:
            assert (status, amount) == (INSUFFICIENT_OUTPUT_AMOUNT, 0)
        elif reserve_in == 0 or reserve_out == 0:
            assert (status, amount) == (INSUFFICIENT_LIQUIDITY, 0)
        elif reserve_in * amount_out * fee[1] >> 256:
            assert (status, amount) == (MUL_OVERFLOW, 0)
        elif amount_out > reserve_out:
            assert (status, amount) == (SUB_UNDERFLOW, 0)
        elif amount_out == reserve_out or fee[0] == 0:
            assert (status, amount) == (DIVISION_BY_ZERO, 0)
        elif model_in(*case) >> 128:
            assert (status, amount) == (ABOVE_128_BITS, 0)
        else:
            assert (status, amount) == (OK, model_in(*case)), case


POOLS = st.tuples(sizes(112), sizes(112), sizes(112), st.sampled_from(FEES[:-1])).filter(
    lambda case: case[0] and case[1] and case[2] > 1
)


@settings(max_examples=150)
@given(st.lists(POOLS, min_size=1, max_size=40))
def test_quotes_never_favour_the_trader(
    cases: list[tuple[int, int, int, tuple[int, int]]],
) -> None:
    """K never falls, a larger input never gives less, an input from get_amount_in is enough."""
    amounts, reserves_in, reserves_out, fees = zip(*cases)
    outputs = [amount for _, amount in quotes_out(*zip(*cases))]
    more = [amount for _, amount in quotes_out([a + 1 for a in amounts], *list(zip(*cases))[1:])]
    for case, output, larger in zip(cases, outputs, more, strict=True):
        assert (case[1] + case[0]) * (case[2] - output) >= case[1] * case[2]
        assert output <= larger
    wanted = [1 + amount % (reserve - 1) for amount, reserve in zip(amounts, reserves_out)]
    needed = quotes_in(wanted, reserves_in, reserves_out, fees)
    enough = [i for i, (status, _) in enumerate(needed) if status == OK]
    for step, relation in ((0, "enough"), (-2, "too little")):
        paid = [needed[i][1] + step for i in enough]
        inputs = [[column[i] for i in enough] for column in (reserves_in, reserves_out, fees)]
        for i, (status, got) in zip(enough, quotes_out([max(p, 0) for p in paid], *inputs)):
            assert (got >= wanted[i]) == (step == 0), (relation, cases[i], wanted[i], status)


@kernel
def _mul_div(x: Limbs, y: Limbs, divisor: Limbs, out: Limbs) -> None:
    for i in range(x.shape[0]):
        store256(out, i, mul_div_128(load128(x, i), load128(y, i), load128(divisor, i)))


def test_estimated_division_at_its_limits() -> None:
    """Products one or two away from a multiple of the divisor, where an estimate rounds wrongly."""
    random = Random(3)
    cases = []
    while len(cases) < 20_000:
        divisor = random.getrandbits(random.randrange(2, 129)) | 1
        x = random.getrandbits(random.randrange(1, 129)) | 1
        if divisor > 1 and gcd(x, divisor) == 1:
            # x * y = small (mod divisor), and the quotient about x: every length up to 128 bits.
            small = random.choice((0, 1, 2, -1, -2)) % divisor
            y = small * pow(x, -1, divisor) % divisor
            grown = y + divisor * random.randrange(1 << random.randrange(0, 90))
            cases.append((x, grown if grown >> 128 == 0 else y, divisor))
    cases += [(x, y, d) for x in (0, 1, 2**128 - 1) for y in (0, 1, 2**128 - 1) for d in (0, 1)]
    cases += [(2**94 + k, 2**60, 2**60 - j) for k in range(-3, 4) for j in range(-3, 4)]
    cases += [(2**127 - k, 2**127 - j, 2**127 + k) for k in range(9) for j in range(9)]
    x, y, divisor = (to_limbs(column, 2) for column in zip(*cases, strict=True))
    out = np.zeros((len(cases), 4), dtype=np.uint64)
    _mul_div(x, y, divisor, out)
    for case, quotient in zip(cases, from_limbs(out), strict=True):
        assert quotient == (case[0] * case[1] // case[2] if case[2] else 0), case


@pytest.mark.parametrize("fee", [(1001, 1000), (-1, 1000), (0, 0), (1, 2**20 + 1), (-5, -4)])
def test_impossible_fees_are_refused(fee: tuple[int, int]) -> None:
    assert quotes_out([E18], [E18], [E18], [fee]) == [(INVALID_FEE, 0)]
    assert quotes_in([E18 // 2], [E18], [E18], [fee]) == [(INVALID_FEE, 0)]
    for numerators in ((fee[0], 1), (1, fee[0])):
        fees = (*numerators, fee[1])
        assert swaps([(E18, E18)], [(9, 0)], [(0, 1)], [fees]) == [(INVALID_FEE, (E18, E18))]


def outcome(call: Callable[..., Any], *arguments: Any) -> tuple[str | None, Any]:
    """(None, what the contract returns) or (why it reverts, None)."""
    try:
        return None, call(*arguments)
    except RevertError as revert:
        return revert.reason, None


def draw_swaps(count: int, seed: int) -> list[tuple[tuple[int, int], int, bool]]:
    """(reserves, amount in, zero for one) of every size that a pair can hold, edges included."""
    random = Random(seed)
    top = 2**112 - 1
    cases = []
    while len(cases) < count:
        if random.random() < 0.5:  # like mainnet: 18 and 6 decimals, trades of 1e-6 to 1
            reserves = (int(10 ** random.uniform(9, 27)), int(10 ** random.uniform(9, 27)))
            amount = int(reserves[0] * 10 ** random.uniform(-6, 0))
        else:
            reserves = (
                random.getrandbits(random.randint(1, 112)),
                random.choice((random.getrandbits(random.randint(1, 112)), top, 1, 2)),
            )
            amount = random.choice(
                (random.getrandbits(random.randint(1, 112)), top - reserves[0], 1, reserves[0])
            )
        if amount > 0 and min(reserves) > 0 and reserves[0] + amount <= top:
            forward = random.random() < 0.5
            cases.append((reserves if forward else reserves[::-1], amount, forward))
    return cases


def compare_with_pair(
    exchange: UniswapV2, attempts: Sequence[tuple], fees: tuple[int, int, int]
) -> list[tuple[int, tuple[int, int]]]:
    """Every (reserves, amounts in, amounts out) ends in the kernel as on the pair."""
    reserves, amounts_in, amounts_out = ([case[k] for case in attempts] for k in range(3))
    answers = swaps(reserves, amounts_in, amounts_out, [fees] * len(attempts))
    for attempt, (status, after) in zip(attempts, answers, strict=True):
        reason, expected = outcome(exchange.swap, *attempt)
        assert (status == OK) == (reason is None), (attempt, status, reason)
        if reason is None:
            assert after == expected, attempt
        else:
            assert reason.endswith(REVERT_REASONS[status]), (attempt, status, reason)
            assert after == attempt[0], "a revert changes nothing"
    return answers


def check_swaps(exchange: UniswapV2, count: int, seed: int, fees: tuple[int, int, int]) -> None:
    """The pair accepts our output and reserves, and refuses one more for its K, as we say."""
    cases = draw_swaps(count, seed)
    sided = [(r if forward else r[::-1], a, forward) for r, a, forward in cases]
    numerators = [(fees[0] if forward else fees[1], fees[2]) for _, _, forward in cases]
    quoted = quotes_out(
        [amount for _, amount, _ in cases],
        [reserves[0] for reserves, _, _ in sided],
        [reserves[1] for reserves, _, _ in sided],
        numerators,
    )
    assert {status for status, _ in quoted} == {OK}
    attempts = []
    for (reserves, amount, forward), (_, output) in zip(cases, quoted, strict=True):
        for wanted in (output, output + 1):
            order = 1 if forward else -1
            attempts.append((reserves, (amount, 0)[::order], (0, wanted)[::order]))
    answers = compare_with_pair(exchange, attempts, fees)
    # Each quoted output passes unless it is zero; one more never does.
    expected = [OK if output else INSUFFICIENT_OUTPUT_AMOUNT for _, output in quoted]
    assert [status for status, _ in answers[::2]] == expected
    assert {status for status, _ in answers[1::2]} <= {K, INSUFFICIENT_LIQUIDITY}


@pytest.fixture(scope="module")
def exchange() -> UniswapV2:
    return UniswapV2()


def test_pair_accepts_the_quote_and_refuses_one_more(exchange: UniswapV2) -> None:
    check_swaps(exchange, 10_000, 11, (997, 997, 1000))


@pytest.mark.exhaustive
def test_pair_accepts_the_quote_and_refuses_one_more_exhaustively(exchange: UniswapV2) -> None:
    check_swaps(exchange, 100_000, 12, (997, 997, 1000))


def check_fork(charged: tuple[int, int, int], count: int) -> None:
    """The pair's bytecode with other fee constants, also one per direction."""
    charged0, charged1, denominator = charged
    fork = UniswapV2(charged0=charged0, charged1=charged1, denominator=denominator)
    fees = (denominator - charged0, denominator - charged1, denominator)
    check_swaps(fork, count, denominator, fees)


FORKED = [(2, 2, 1000), (10, 200, 4000), (0, 1, 3)]


@pytest.mark.parametrize("charged", FORKED)
def test_forks_with_their_own_fees(charged: tuple[int, int, int]) -> None:
    check_fork(charged, 500)


@pytest.mark.exhaustive
@pytest.mark.parametrize("charged", FORKED)
def test_forks_with_their_own_fees_exhaustively(charged: tuple[int, int, int]) -> None:
    check_fork(charged, 20_000)


def check_any_swap(exchange: UniswapV2, count: int, seed: int) -> None:
    random = Random(seed)
    attempts = []
    for _ in range(count):
        bits = random.randint(1, 112)
        reserves = (random.getrandbits(bits), random.getrandbits(random.randint(1, 112)))
        sent = tuple(
            random.choice(
                (0, 1, reserve, reserve // 50, random.getrandbits(random.randint(1, 128)))
            )
            for reserve in reserves
        )
        wanted = tuple(
            random.choice((0, 0, 1, reserve // 99, max(reserve - 1, 0), reserve))
            for reserve in reserves
        )
        attempts.append((reserves, sent, wanted))
    answers = compare_with_pair(exchange, attempts, (997, 997, 1000))
    seen = {status for status, _ in answers}
    reverts = {K, OVERFLOW, INSUFFICIENT_LIQUIDITY, INSUFFICIENT_INPUT_AMOUNT}
    assert seen >= {OK, INSUFFICIENT_OUTPUT_AMOUNT, MUL_OVERFLOW} | reverts


def test_any_swap_ends_as_on_the_pair(exchange: UniswapV2) -> None:
    """Both tokens in and out at once, donations, flash repayments, overflows: same end."""
    check_any_swap(exchange, 3_000, 5)


@pytest.mark.exhaustive
def test_any_swap_ends_as_on_the_pair_exhaustively(exchange: UniswapV2) -> None:
    check_any_swap(exchange, 100_000, 15)


def check_router(exchange: UniswapV2, count: int, seed: int) -> None:
    """getAmountOut and getAmountIn of the deployed router, reverts and their reasons included."""
    random = Random(seed)
    cases = []
    for _ in range(count):
        draw = [
            random.choice((0, 1, 2**112 - 1, *(random.getrandbits(bits) for bits in (30, 80, 128))))
            for _ in range(3)
        ]
        if random.random() < 0.2:
            draw[0] = draw[2]
        cases.append((*draw, UNISWAP))
    seen = set()
    for quotes, contract in (
        (quotes_out, exchange.get_amount_out),
        (quotes_in, exchange.get_amount_in),
    ):
        for case, (status, amount) in zip(cases, quotes(*zip(*cases, strict=True)), strict=True):
            seen.add(status)
            reason, expected = outcome(contract, *case[:3])
            if reason is not None:
                assert reason.endswith(REVERT_REASONS[status]), (case, status, reason)
                assert (reason == "") == (status == DIVISION_BY_ZERO), case
            elif status == ABOVE_128_BITS:
                assert expected >> 128 > 0, case
            else:
                assert (status, amount) == (OK, expected), case
    assert seen >= {OK, MUL_OVERFLOW, SUB_UNDERFLOW, DIVISION_BY_ZERO, INSUFFICIENT_LIQUIDITY}


def test_router_quotes_and_their_reverts(exchange: UniswapV2) -> None:
    check_router(exchange, 3_000, 6)


@pytest.mark.exhaustive
def test_router_quotes_and_their_reverts_exhaustively(exchange: UniswapV2) -> None:
    check_router(exchange, 100_000, 16)
