"""Float64 mirrors of V3 quotes, to rank candidates; the integers of `pool.swap` decide.

Inside one range the output of an input x after fee is L t x / (L / t + x), written here as
x t^2 / (1 + x t / L) with t the square root of the price in the direction of the trade: nothing is
subtracted, so nothing cancels. Amounts are in token units of the contract (wei), as float64.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.checked_arrays import entrance, wanted
from kernels.compile import filter_kernel, inline, lean_kernel
from kernels.pools.uniswap_v3.state import V3Pools
from kernels.pools.uniswap_v3.swap_fee import swap_fee

PER_PIP = 1e-6


@entrance(
    amounts=wanted(np.float64, "N"),
    sqrt_prices=wanted(np.float64, "N"),
    liquidities=wanted(np.float64, "N"),
    keep=wanted(np.float64, "N"),
    outputs=wanted(np.float64, "N"),
)
@filter_kernel
def rank_outputs(
    amounts: NDArray[np.float64],
    sqrt_prices: NDArray[np.float64],
    liquidities: NDArray[np.float64],
    keep: NDArray[np.float64],
    outputs: NDArray[np.float64],
) -> None:
    """Outputs of N inputs at constant liquidity, vectorised; all arrays are float64[N].

    `sqrt_prices` are sqrt(token1 per token0) for zero_for_one and the inverse otherwise, `keep` is
    1 - fee. While the trade stays within its range |float - exact| is at most
    1e-14 exact + 1 + p + L max(1, p) / 2^96, with p the squared sqrt_price: what one unit of the
    input, of the output and of the price are worth, which is what the contract rounds away.
    """
    for row in range(amounts.shape[0]):
        amount = amounts[row] * keep[row]
        root = sqrt_prices[row]
        liquidity = liquidities[row]
        outputs[row] = amount * root * root * liquidity / (liquidity + amount * root)


@lean_kernel
def float_quote(
    pools: V3Pools, pool: int, zero_for_one: bool, amount: float
) -> tuple[float, float]:
    """(output, marginal output) of an exact input over as many ranges as it takes, in floats.

    For ranking and sizing. Where liquidity ends the output is what the pool gives, the margin 0.
    Within 1e-10 of the exact output, and per range crossed within the units that `rank_outputs`
    names. At a tick the margin is that of the range behind it.
    """
    keep = 1.0 - PER_PIP * float(swap_fee(pools, pool, zero_for_one))
    rest = amount * keep
    first = pools.first_tick[pool]
    last = first + pools.tick_count[pool]
    place = pools.cursor[pool]
    price = pools.sqrt_price_f64[pool]
    liquidity = pools.liquidity_f64[pool]
    output = 0.0
    while rest >= 0.0:
        at = place - 1 if zero_for_one else place
        if at < first or at >= last:
            # Beyond the last tick there is only what rounding left of the liquidity.
            break
        stop = pools.tick_sqrt_price_f64[at]
        if liquidity > 0.0:
            # In the direction of the trade the root price falls from `root` to `end`.
            root = price if zero_for_one else 1.0 / price
            end = stop if zero_for_one else 1.0 / stop
            distance = price - stop if zero_for_one else (stop - price) * root * end
            capacity = liquidity * distance / (root * end)
            if rest < capacity:
                reached = root / (1.0 + rest * root / liquidity)
                return output + rest * root * reached, keep * reached * reached
            rest -= capacity
            output += liquidity * distance
        net = pools.liquidity_net_f64[at]
        liquidity += -net if zero_for_one else net
        price = stop
        place = at if zero_for_one else at + 1
    return output, 0.0


@inline
def float_output(pools: V3Pools, pool: int, zero_for_one: bool, amount: float) -> float:
    """The output of `float_quote`."""
    return float_quote(pools, pool, zero_for_one, amount)[0]
