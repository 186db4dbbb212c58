"""Status codes of the Uniswap V3 kernels: 0, or why the contract would revert. Kernels return them
instead of raising; the text after each is the contract's own reason where it has one."""

OK = 0
MATH = 1  # a require of FullMath, SqrtPriceMath, SafeCast or LowGasSafeMath
TICK_BOUND = 2  # "T", "TLM", "TUM": a tick outside [-887272, 887272]
PRICE_BOUND = 3  # "R": a price without a tick
ZERO_AMOUNT = 4  # "AS"
PRICE_LIMIT = 5  # "SPL": the limit is on the wrong side of the price, or out of bounds
LIQUIDITY = 6  # "LA", "LS": active or gross liquidity would leave 0..2^128 - 1
TICK_LIQUIDITY = 7  # "LO": more liquidity on a tick than its spacing allows
TICK_ORDER = 8  # "TLU": lower tick not below upper tick
TICK_SPACING = 9  # a tick that is no multiple of the spacing
FULL_FEE = 13  # V4's InvalidFeeForExactOut: a fee of 100 % leaves nothing to buy with
# Not the contract's: the arrays cannot represent the answer.
TICKS_FULL = 10  # no room for another initialised tick in the pool's slice
TICKS_UNKNOWN = 11  # the price would leave the range whose ticks were loaded
UNKNOWN_POOL = 12  # pool index outside the arrays

REASONS = {
    OK: "ok",
    MATH: "arithmetic overflow (FullMath, SqrtPriceMath or SafeCast)",
    TICK_BOUND: "tick out of bounds (T, TLM or TUM)",
    PRICE_BOUND: "price out of bounds (R)",
    ZERO_AMOUNT: "amount is zero (AS)",
    PRICE_LIMIT: "price limit on the wrong side or out of bounds (SPL)",
    LIQUIDITY: "liquidity overflow or underflow (LA or LS)",
    TICK_LIQUIDITY: "more liquidity on a tick than its spacing allows (LO)",
    TICK_ORDER: "lower tick not below upper tick (TLU)",
    TICK_SPACING: "tick is no multiple of the tick spacing",
    FULL_FEE: "exact output with a fee of 100 % (InvalidFeeForExactOut)",
    TICKS_FULL: "no room for another tick: build the pools with more capacity",
    TICKS_UNKNOWN: "price would leave the loaded tick range: load more ticks",
    UNKNOWN_POOL: "no pool with this index",
}
