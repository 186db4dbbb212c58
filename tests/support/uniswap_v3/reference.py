"""Uniswap V3 in plain Python integers: the second oracle beside the deployed bytecode. Written from
v3-core's libraries, one function per Solidity function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MAX_U128 = 2**128 - 1
MAX_U160 = 2**160 - 1
MAX_U256 = 2**256 - 1
Q96 = 2**96
MIN_TICK, MAX_TICK = -887272, 887272
MIN_SQRT_RATIO = 4295128739
MAX_SQRT_RATIO = 1461446703485210103287273052203988822378723970342
PIPS = 1_000_000

# round(2**128 / 1.0001**(2**k / 2)) as v3-core's TickMath spells them, k = 0..19
TICK_FACTORS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)


class Revert(Exception):  # noqa: N818  the EVM's word
    """The contract would revert here."""


def require(condition: bool) -> None:
    if not condition:
        raise Revert


def mul_div(a: int, b: int, denominator: int) -> int:
    require(denominator > 0)
    result = a * b // denominator
    require(result <= MAX_U256)
    return result


def mul_div_rounding_up(a: int, b: int, denominator: int) -> int:
    result = mul_div(a, b, denominator)
    if a * b % denominator:
        require(result < MAX_U256)
        result += 1
    return result


def div_rounding_up(a: int, b: int) -> int:
    return a // b + (a % b > 0)


def get_sqrt_ratio_at_tick(tick: int) -> int:
    require(abs(tick) <= MAX_TICK)
    ratio = 1 << 128
    for k, factor in enumerate(TICK_FACTORS):
        if abs(tick) >> k & 1:
            ratio = ratio * factor >> 128
    if tick > 0:
        ratio = MAX_U256 // ratio
    return (ratio >> 32) + (ratio % 2**32 > 0)


def get_tick_at_sqrt_ratio(sqrt_price: int) -> int:
    require(MIN_SQRT_RATIO <= sqrt_price < MAX_SQRT_RATIO)
    ratio = sqrt_price << 32
    msb = ratio.bit_length() - 1
    r = ratio >> (msb - 127) if msb >= 128 else ratio << (127 - msb)
    log_2 = (msb - 128) << 64
    for bit in range(63, 49, -1):
        r = r * r >> 127
        carry = r >> 128
        log_2 |= carry << bit
        r >>= carry
    log_sqrt10001 = log_2 * 255738958999603826347141
    low = (log_sqrt10001 - 3402992956809132418596140100660247210) >> 128
    high = (log_sqrt10001 + 291339464771989622907027621153398088495) >> 128
    if low == high:
        return low
    return high if get_sqrt_ratio_at_tick(high) <= sqrt_price else low


def next_price_from_amount0(sqrt_price: int, liquidity: int, amount: int, add: bool) -> int:
    if amount == 0:
        return sqrt_price
    numerator = liquidity << 96
    product = amount * sqrt_price
    if add:
        if product <= MAX_U256 and numerator + product <= MAX_U256:
            return mul_div_rounding_up(numerator, sqrt_price, numerator + product) & MAX_U160
        denominator = numerator // sqrt_price + amount
        require(denominator <= MAX_U256)
        return div_rounding_up(numerator, denominator) & MAX_U160
    require(product <= MAX_U256 and numerator > product)
    result = mul_div_rounding_up(numerator, sqrt_price, numerator - product)
    require(result <= MAX_U160)
    return result


def next_price_from_amount1(sqrt_price: int, liquidity: int, amount: int, add: bool) -> int:
    if add:
        result = sqrt_price + mul_div(amount, Q96, liquidity)
        require(result <= MAX_U160)
        return result
    quotient = mul_div_rounding_up(amount, Q96, liquidity)
    require(sqrt_price > quotient)
    return sqrt_price - quotient


def next_price_from_input(sqrt_price: int, liquidity: int, amount: int, zero_for_one: bool) -> int:
    require(sqrt_price > 0 and liquidity > 0)
    move = next_price_from_amount0 if zero_for_one else next_price_from_amount1
    return move(sqrt_price, liquidity, amount, True)


def next_price_from_output(sqrt_price: int, liquidity: int, amount: int, zero_for_one: bool) -> int:
    require(sqrt_price > 0 and liquidity > 0)
    move = next_price_from_amount1 if zero_for_one else next_price_from_amount0
    return move(sqrt_price, liquidity, amount, False)


def amount0_delta(price_a: int, price_b: int, liquidity: int, round_up: bool) -> int:
    low, high = sorted((price_a, price_b))
    require(low > 0)
    if round_up:
        return div_rounding_up(mul_div_rounding_up(liquidity << 96, high - low, high), low)
    return mul_div(liquidity << 96, high - low, high) // low


def amount1_delta(price_a: int, price_b: int, liquidity: int, round_up: bool) -> int:
    low, high = sorted((price_a, price_b))
    return (mul_div_rounding_up if round_up else mul_div)(liquidity, high - low, Q96)


class Step(NamedTuple):
    sqrt_price: int
    amount_in: int
    amount_out: int
    fee_amount: int


def compute_swap_step(
    current: int, target: int, liquidity: int, remaining: int, fee_pips: int
) -> Step:
    """`remaining` >= 0 is an exact input, < 0 an exact output."""
    zero_for_one = current >= target
    exact_in = remaining >= 0
    delta_in = amount0_delta if zero_for_one else amount1_delta
    delta_out = amount1_delta if zero_for_one else amount0_delta
    amount_in = amount_out = 0
    if exact_in:
        less_fee = mul_div(remaining, PIPS - fee_pips, PIPS)
        amount_in = delta_in(target, current, liquidity, True)
        price = target
        if less_fee < amount_in:
            price = next_price_from_input(current, liquidity, less_fee, zero_for_one)
    else:
        amount_out = delta_out(target, current, liquidity, False)
        price = target
        if -remaining < amount_out:
            price = next_price_from_output(current, liquidity, -remaining, zero_for_one)
    reached = price == target
    if not (reached and exact_in):
        amount_in = delta_in(price, current, liquidity, True)
    if not (reached and not exact_in):
        amount_out = delta_out(price, current, liquidity, False)
    if not exact_in:
        amount_out = min(amount_out, -remaining)
    if exact_in and not reached:
        return Step(price, amount_in, amount_out, remaining - amount_in)
    if fee_pips == PIPS:  # V4 only; nothing but fee was paid
        return Step(price, amount_in, amount_out, 0)
    fee = mul_div_rounding_up(amount_in, fee_pips, PIPS - fee_pips)
    return Step(price, amount_in, amount_out, fee)


def max_liquidity_per_tick(tick_spacing: int, v4: bool = False) -> int:
    lowest = MIN_TICK // tick_spacing if v4 else -(MAX_TICK // tick_spacing)
    return MAX_U128 // (MAX_TICK // tick_spacing - lowest + 1)


class Tick(NamedTuple):
    liquidity_gross: int
    liquidity_net: int


class Swap(NamedTuple):
    """Signed as the pool's Swap event: positive is paid to the pool."""

    amount0: int
    amount1: int
    steps: int


@dataclass
class Pool:
    """A V3 pool with the contract's own bitmap (the kernels use sorted ticks instead)."""

    fee_pips: int
    tick_spacing: int
    sqrt_price: int
    tick: int
    liquidity: int = 0
    # By input token, 0 is off: 1/n of the fee, or n/denominator where there is one.
    protocol_share: tuple[int, int] = (0, 0)
    protocol_denominator: int | None = None
    # V4: the share is pips on top of the LP fee, amounts are int128, the fee may be 100 %.
    v4: bool = False
    ticks: dict[int, Tick] = field(default_factory=dict)
    bitmap: dict[int, int] = field(default_factory=dict)

    @classmethod
    def initialized(cls, fee_pips: int, tick_spacing: int, sqrt_price: int) -> Pool:
        return cls(fee_pips, tick_spacing, sqrt_price, get_tick_at_sqrt_ratio(sqrt_price))

    def modify_liquidity(self, lower: int, upper: int, delta: int) -> tuple[int, int]:
        """Mint (delta > 0) or burn (delta < 0): amounts of token0 and token1, rounded for the pool.

        The state is unspecified after a Revert.
        """
        require(lower < upper and lower >= MIN_TICK and upper <= MAX_TICK)
        require(-(2**127) < delta < 2**127)
        if delta:
            for tick, signed in ((lower, delta), (upper, -delta)):
                gross, net = self.ticks.get(tick, Tick(0, 0))
                most = max_liquidity_per_tick(self.tick_spacing, self.v4)
                require(0 <= gross + delta <= most)
                require(-(2**127) <= net + signed < 2**127)
                if (gross == 0) != (gross + delta == 0):
                    require(tick % self.tick_spacing == 0)
                    word, bit = divmod(tick // self.tick_spacing, 256)
                    self.bitmap[word] = self.bitmap.get(word, 0) ^ (1 << bit)
                self.ticks[tick] = Tick(gross + delta, net + signed)
            for tick in (lower, upper):
                if self.ticks[tick].liquidity_gross == 0:
                    del self.ticks[tick]
        price_a, price_b = get_sqrt_ratio_at_tick(lower), get_sqrt_ratio_at_tick(upper)
        current = min(max(self.sqrt_price, price_a), price_b)
        if self.tick < lower:
            current = price_a
        elif self.tick >= upper:
            current = price_b
        elif delta:
            require(0 <= self.liquidity + delta <= MAX_U128)
            self.liquidity += delta
        up, sign = delta > 0, 1 if delta > 0 else -1
        amount0 = amount0_delta(current, price_b, abs(delta), up) if current < price_b else 0
        amount1 = amount1_delta(price_a, current, abs(delta), up)
        require(amount0 < 2**255 and amount1 < 2**255)
        if self.v4:
            require(max(amount0, amount1) <= 2**127 - (delta < 0))
        return sign * amount0, sign * amount1

    def next_initialized_tick(self, tick: int, lte: bool) -> tuple[int, bool]:
        """TickBitmap.nextInitializedTickWithinOneWord."""
        compressed = tick // self.tick_spacing
        if lte:
            word, bit = compressed >> 8, compressed & 255
            masked = self.bitmap.get(word, 0) & ((1 << (bit + 1)) - 1)
            found = masked.bit_length() - 1 if masked else 0
        else:
            word, bit = (compressed + 1) >> 8, (compressed + 1) & 255
            masked = self.bitmap.get(word, 0) >> bit << bit
            found = (masked & -masked).bit_length() - 1 if masked else 255
        return (word * 256 + found) * self.tick_spacing, bool(masked)

    def _protocol_fee(self, fee: int, share: int) -> int:
        if self.protocol_denominator:
            require(fee * share <= MAX_U256)
            return fee * share // self.protocol_denominator
        return fee // share if share else 0

    def swap(self, zero_for_one: bool, amount_specified: int, limit: int) -> Swap:
        """UniswapV3Pool.swap. The pool is unchanged after a Revert."""
        require(amount_specified != 0)
        if zero_for_one:
            require(MIN_SQRT_RATIO < limit < self.sqrt_price)
        else:
            require(self.sqrt_price < limit < MAX_SQRT_RATIO)
        exact_in = amount_specified > 0
        share = self.protocol_share[0 if zero_for_one else 1]
        fee_pips = self.fee_pips
        if self.v4:
            fee_pips = share + fee_pips - share * fee_pips // PIPS
            require(exact_in or fee_pips < PIPS)
        price, tick, liquidity = self.sqrt_price, self.tick, self.liquidity
        remaining, calculated, steps = amount_specified, 0, 0
        while remaining != 0 and price != limit:
            steps += 1
            start = price
            tick_next, initialized = self.next_initialized_tick(tick, zero_for_one)
            tick_next = min(max(tick_next, MIN_TICK), MAX_TICK)
            price_next = get_sqrt_ratio_at_tick(tick_next)
            target = max(price_next, limit) if zero_for_one else min(price_next, limit)
            price, amount_in, amount_out, fee = compute_swap_step(
                price, target, liquidity, remaining, fee_pips
            )
            require(amount_out < 2**255)
            require((amount_in + fee) & MAX_U256 < 2**255)
            if exact_in:
                remaining -= amount_in + fee
                calculated -= amount_out
            else:
                remaining += amount_out
                calculated += amount_in + fee
            require(-(2**255) <= calculated < 2**255)
            if (
                liquidity > 0 and not self.v4
            ):  # the fee growth per unit of liquidity must fit 128.128
                mul_div(fee - self._protocol_fee(fee, share), 2**128, liquidity)
            if price == price_next:
                if initialized:
                    net = self.ticks[tick_next].liquidity_net
                    liquidity += -net if zero_for_one else net
                    require(0 <= liquidity <= MAX_U128)
                tick = tick_next - 1 if zero_for_one else tick_next
            elif price != start:
                tick = get_tick_at_sqrt_ratio(price)
        specified = amount_specified - remaining
        if self.v4:
            require(max(specified, calculated) <= 2**127 and min(specified, calculated) > -(2**127))
        self.sqrt_price, self.tick, self.liquidity = price, tick, liquidity
        if zero_for_one == exact_in:
            return Swap(specified, calculated, steps)
        return Swap(calculated, specified, steps)
