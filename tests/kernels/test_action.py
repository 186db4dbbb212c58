"""Actions and their meaning, both ways."""

import numpy as np
import pytest

from kernels.action import ACTIONS, BID_FRACTION, BID_PPM, BIDS, PPM, action_of, decode, mask
from kernels.market import FIXED_ROWS, FOUND_CYCLE, FOUND_NET, OPPORTUNITIES


def test_every_action_decodes_and_encodes() -> None:
    assert decode(0) == (-1, 0)
    for k in range(OPPORTUNITIES):
        for bid in range(BIDS):
            assert decode(action_of(k, bid)) == (k, BID_PPM[bid])
    assert action_of(OPPORTUNITIES - 1, BIDS - 1) == ACTIONS - 1


@pytest.mark.parametrize("action", [-1, ACTIONS, 10**9, -(2**62)])
def test_actions_outside_are_passes(action: int) -> None:
    assert decode(action) == (-1, 0)


def test_bad_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="opportunity 4"):
        action_of(OPPORTUNITIES, 0)
    with pytest.raises(ValueError, match="bid 32"):
        action_of(0, BIDS)


def test_bids_are_log_spaced_below_99_percent() -> None:
    assert BID_PPM[0] == 0
    assert BID_PPM[-1] == 990_000
    assert np.all(np.diff(BID_PPM) > 0)
    ratio = (PPM - BID_PPM[1:]) / (PPM - BID_PPM[:-1])
    np.testing.assert_allclose(ratio, 0.01 ** (1 / 31), rtol=1e-4)
    np.testing.assert_array_equal(BID_FRACTION, BID_PPM / 1e6)


def test_mask_allows_bids_where_there_is_profit() -> None:
    tile = np.zeros((FIXED_ROWS, 2))
    tile[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES] = -1.0
    tile[FOUND_CYCLE, 0], tile[FOUND_NET, 0] = 3.0, 0.5
    tile[FOUND_CYCLE + 1, 0], tile[FOUND_NET + 1, 0] = 4.0, 0.0
    allowed = np.empty((2, ACTIONS), np.bool_)
    mask(tile, allowed)
    assert allowed[0].nonzero()[0].tolist() == list(range(1 + BIDS))
    assert allowed[1].nonzero()[0].tolist() == [0]
