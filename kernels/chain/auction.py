"""The sealed-bid first-price auction that a builder runs over bundles for the same opportunity."""

import numpy as np

from kernels.compile import lean_kernel

NOBODY = -1
OWN = 0


@lean_kernel
def first_price(own_bid: float, rival_bids: np.ndarray) -> tuple[int, float, float]:
    """(winner, payment, second): who wins, what the winner pays, the highest losing bid.

    `own_bid` below 0 means that we do not take part; negative rival bids are ignored too. The
    winner is OWN (0), 1 + index of the rival, or NOBODY (-1). A tie goes to the rival, among rivals
    to the first: their bids were there before ours. Payment and second are in the unit of the bids,
    0 when absent.
    """
    winner, payment, second = NOBODY, -1.0, -1.0
    for index in range(rival_bids.shape[0]):
        bid = rival_bids[index]
        if bid > payment:
            winner, payment, second = index + 1, bid, payment
        elif bid > second:
            second = bid
    if own_bid > payment:
        winner, payment, second = OWN, own_bid, payment
    elif own_bid > second:
        second = own_bid
    return winner, max(payment, 0.0), max(second, 0.0)
