# pragma version ~=0.4.0
"""
@title The exchange of StableSwap plain pools, for any number of coins
@notice Written anew for Vyper 0.4: the order of statements and the roundings are those of
    curve-contract's SwapTemplateBase.vy (precision 100) and StableSwap3Pool.vy (precision 1), whose
    compilers do not run beside this one. It is not their deployed bytecode. Balances, times and
    parameters are arguments, so that any state is one call.
"""

UNIT: constant(uint256) = 10 ** 18
FEE_UNIT: constant(uint256) = 10 ** 10


@internal
@pure
def _ramped(ramp: uint256[4], now: uint256) -> uint256:
    """A of a ramp (from, to, start, end) at a time."""
    if now >= ramp[3]:
        return ramp[1]
    if ramp[1] > ramp[0]:
        return ramp[0] + (ramp[1] - ramp[0]) * (now - ramp[2]) // (ramp[3] - ramp[2])
    return ramp[0] - (ramp[0] - ramp[1]) * (now - ramp[2]) // (ramp[3] - ramp[2])


@internal
@pure
def _invariant(scaled: DynArray[uint256, 8], amp: uint256, precision: uint256) -> uint256:
    count: uint256 = len(scaled)
    total: uint256 = 0
    for held: uint256 in scaled:
        total += held
    if total == 0:
        return 0
    d: uint256 = total
    ann: uint256 = amp * count
    for _: uint256 in range(255):
        power: uint256 = d
        for held: uint256 in scaled:
            power = power * d // (held * count)
        before: uint256 = d
        d = (ann * total // precision + power * count) * d // (
            (ann - precision) * d // precision + (count + 1) * power
        )
        if max(d, before) - min(d, before) <= 1:
            return d
    # The older pool goes on with the last round.
    assert precision == 1
    return d


@internal
@pure
def _other(
    i: uint256, j: uint256, x: uint256, scaled: DynArray[uint256, 8], amp: uint256,
    precision: uint256,
) -> uint256:
    count: uint256 = len(scaled)
    d: uint256 = self._invariant(scaled, amp, precision)
    ann: uint256 = amp * count
    c: uint256 = d
    total: uint256 = 0
    for k: uint256 in range(count, bound=8):
        if k == j:
            continue
        held: uint256 = x
        if k != i:
            held = scaled[k]
        total += held
        c = c * d // (held * count)
    c = c * d * precision // (ann * count)
    b: uint256 = total + d * precision // ann
    y: uint256 = d
    for _: uint256 in range(255):
        before: uint256 = y
        y = (y * y + c) // (2 * y + b - d)
        if max(y, before) - min(y, before) <= 1:
            return y
    assert precision == 1
    return y


@external
@pure
def exchange(
    balances: DynArray[uint256, 8], rates: DynArray[uint256, 8], ramp: uint256[4], now: uint256,
    precision: uint256, fees: uint256[2], trade: uint256[3],
) -> uint256[3]:
    """(output, balance of i, balance of j) after trade = (i, j, dx) with fees = (fee, admin)."""
    i: uint256 = trade[0]
    j: uint256 = trade[1]
    assert i != j and i < len(balances) and j < len(balances)
    scaled: DynArray[uint256, 8] = []
    for k: uint256 in range(len(balances), bound=8):
        scaled.append(rates[k] * balances[k] // UNIT)
    x: uint256 = scaled[i] + trade[2] * rates[i] // UNIT
    y: uint256 = self._other(i, j, x, scaled, self._ramped(ramp, now), precision)
    dy: uint256 = scaled[j] - y - 1
    fee: uint256 = dy * fees[0] // FEE_UNIT
    dy = (dy - fee) * UNIT // rates[j]
    admin: uint256 = fee * fees[1] // FEE_UNIT
    admin = admin * UNIT // rates[j]
    return [dy, balances[i] + trade[2], balances[j] - dy - admin]
