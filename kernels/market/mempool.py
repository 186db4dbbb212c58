"""Rules of the transaction pool: what replaces what, what a block can include, how nonces wait.

Replacement: geth, core/txpool/legacypool (price bump 10 %). Inclusion: EIP-1559.
"""

import numpy as np

from kernels.compile import inline, lean_kernel
from kernels.numbers.lanes import Floats, choose, least

PRICE_BUMP_PERCENT = 10


@lean_kernel
def replaces(old_cap_wei: int, old_tip_wei: int, new_cap_wei: int, new_tip_wei: int) -> bool:
    """Whether geth lets a transaction take the place of one with the same sender and nonce.

    Both fees must reach old * 110 // 100, and both must be above the old ones. Fees are below 2^55.
    """
    bump = 100 + PRICE_BUMP_PERCENT
    cap = int(np.int64(old_cap_wei)) * bump // 100
    tip = int(np.int64(old_tip_wei)) * bump // 100
    if new_cap_wei <= old_cap_wei or new_tip_wei <= old_tip_wei:
        return False
    return new_cap_wei >= cap and new_tip_wei >= tip


@inline
def bumped(old: float, wanted: float) -> float:
    """The fee of a replacement: what its sender wants, but never below the rule."""
    return max(wanted, old * (1.0 + PRICE_BUMP_PERCENT / 100.0))


@inline
def effective_tip(cap: Floats, tip: Floats, base_fee: Floats) -> Floats:
    """Priority fee that the proposer gets per gas; -1 when the cap is below the base fee."""
    return choose(cap >= base_fee, least(tip, cap - base_fee), -1.0)


@inline
def waiting_tip(own: float, earlier: float) -> float:
    """The fee at which a transaction counts when it has to wait for an earlier nonce.

    A block cannot take it before that one, nor without it: -1 when that one is not includable.
    """
    return min(own, earlier)
