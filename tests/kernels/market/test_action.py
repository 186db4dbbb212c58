"""Actions and their meaning, both ways."""

import numpy as np
import pytest

from kernels.market.action import (
    ACTION_TABLE,
    ACTIONS,
    BID,
    BID_FRACTION,
    BID_PPM,
    BIDS,
    CANCEL,
    CANCEL_BID,
    COARSE_BIDS,
    FIRST_HALF,
    FIRST_PUBLIC,
    HALF_PPM,
    KEEP,
    PPM,
    action_of,
    bid_indices,
    decode,
    mask,
)
from kernels.market.tile import (
    BUNDLE,
    CHANNELS,
    FIXED_ROWS,
    FOUND_CYCLE,
    FOUND_HALF_NET,
    FOUND_NET,
    OPPORTUNITIES,
    PUBLIC,
    STANDING_CYCLE,
)

PASSING = (KEEP, -1, 0, BUNDLE, PPM)


def test_every_action_decodes_and_encodes() -> None:
    assert decode(0) == PASSING
    for action, row in enumerate(ACTION_TABLE):
        assert decode(action) == row
    for k in range(OPPORTUNITIES):
        for bid in range(BIDS):
            assert decode(action_of(k, bid)) == (BID, k, BID_PPM[bid], BUNDLE, PPM)
    assert decode(CANCEL)[0] == CANCEL_BID
    assert len(set(ACTION_TABLE)) == ACTIONS == 194


def test_coarse_rows_take_every_fourth_bid() -> None:
    for first, channel, size in ((FIRST_HALF, BUNDLE, HALF_PPM), (FIRST_PUBLIC, PUBLIC, PPM)):
        rows = ACTION_TABLE[first : first + OPPORTUNITIES * COARSE_BIDS]
        assert [row.bid_ppm for row in rows] == [int(x) for x in BID_PPM[3::4]] * OPPORTUNITIES
        assert {(row.channel, row.size_ppm) for row in rows} == {(channel, size)}
    assert ACTION_TABLE[FIRST_PUBLIC + 1].opportunity == 0


def test_bid_indices_are_those_of_the_grid() -> None:
    bids = bid_indices(np.arange(ACTIONS))
    for action, row in enumerate(ACTION_TABLE):
        assert bids[action] == (-1 if row.kind != BID else list(BID_PPM).index(row.bid_ppm))


@pytest.mark.parametrize("action", [-1, ACTIONS, 10**9, -(2**62)])
def test_actions_outside_are_passes(action: int) -> None:
    assert decode(action) == PASSING


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
    tile[STANDING_CYCLE] = -1.0
    tile[CHANNELS] = 1 << BUNDLE
    tile[FOUND_CYCLE, 0], tile[FOUND_NET, 0] = 3.0, 0.5
    tile[FOUND_CYCLE + 1, 0], tile[FOUND_NET + 1, 0] = 4.0, 0.0
    allowed = np.empty((2, ACTIONS), np.bool_)
    mask(tile, allowed)
    assert allowed[0].nonzero()[0].tolist() == list(range(1 + BIDS))
    assert allowed[1].nonzero()[0].tolist() == [0]
    tile[CHANNELS, 0] = 1 << BUNDLE | 1 << PUBLIC
    tile[FOUND_HALF_NET, 0] = 0.3
    tile[STANDING_CYCLE, 1] = 7.0
    mask(tile, allowed)
    half = range(FIRST_HALF, FIRST_HALF + COARSE_BIDS)
    public = range(FIRST_PUBLIC, FIRST_PUBLIC + COARSE_BIDS)
    assert allowed[0].nonzero()[0].tolist() == [*range(1 + BIDS), *half, *public]
    assert allowed[1].nonzero()[0].tolist() == [0, CANCEL]
