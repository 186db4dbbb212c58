"""Planted kinds of bidders come back from what they published; hand-made traces give features."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from envs.market.rivals import CLAMPED, SHARE_80, SHARE_90, TRUE_VALUE, rule_bid
from models.patterns.bidder_clusters import (
    FEATURES,
    BidTraces,
    TracesError,
    bidder_features,
    cluster_bidders,
    load_traces,
)

AUCTIONS = 60
Row = tuple[int, int, float, float, float]  # bidder, auction, time, bid, size


def traces(rows: list[Row], bidders: int | None = None) -> BidTraces:
    columns = np.array(rows, float).reshape(-1, 5).T
    count = int(columns[0].max()) + 1 if bidders is None else bidders
    return BidTraces(
        tuple(f"bidder {k}" for k in range(count)),
        *(columns[0].astype(np.int64), columns[1].astype(np.int64)),
        *(columns[2], columns[3], columns[4]),
    )


def feature(features: np.ndarray, bidder: int, name: str) -> float:
    return float(features[bidder, FEATURES.index(name)])


def test_features_of_hand_made_traces() -> None:
    rows: list[Row] = []
    for auction in range(6):
        size = 10.0 * 2.0**auction
        # Bidder 0 starts low, raises by half, comes down by a tenth, ends at 0.5 * size.
        last = 0.5 * size
        rows += [(0, auction, 1.0, last / 0.9 / 1.5, size), (0, auction, 2.0, last / 0.9, size)]
        rows += [(0, auction, 4.0, last, size)]
        # Bidder 1 bids once, late, a square root of the size.
        rows += [(1, auction, 9.0, 6.0 * math.sqrt(size), size)]
    rows += [(2, 0, 0.0, 1.0, math.nan)]
    f = bidder_features(traces(rows[::-1]))  # the order of the rows does not matter
    assert feature(f, 0, "log_bids") == pytest.approx(math.log(3))
    assert (feature(f, 0, "first_bid_s"), feature(f, 0, "last_bid_s")) == (1.0, 4.0)
    assert feature(f, 0, "raise") == pytest.approx((math.log(1.5) + math.log(0.9)) / 2)
    assert feature(f, 0, "lowered") == pytest.approx(0.5)
    assert feature(f, 0, "level") == pytest.approx(math.log(0.5))
    assert feature(f, 0, "spread") == pytest.approx(0.0, abs=1e-12)
    assert feature(f, 0, "elasticity") == pytest.approx(1.0)
    assert feature(f, 1, "elasticity") == pytest.approx(0.5)
    assert feature(f, 1, "raise") == feature(f, 1, "lowered") == 0.0
    # Sizes 10 to 320: 0.5 size against 6 sqrt(size), higher from size 144 on.
    assert feature(f, 0, "won") == pytest.approx(2 / 6)
    assert feature(f, 1, "won") == pytest.approx(4 / 6)
    for name in ("level", "spread", "elasticity"):
        assert math.isnan(feature(f, 2, name))


def test_the_four_rules_of_the_simulated_rivals_come_back() -> None:
    """Bids of `envs.market.rivals.rule_bid`; each rival misjudges every opportunity a little."""
    rng = np.random.default_rng(0)
    rules = np.repeat([SHARE_80, SHARE_90, CLAMPED, TRUE_VALUE], 12)
    skill = np.exp(rng.normal(0.0, 0.015, rules.size))
    rows: list[Row] = []
    for auction in range(AUCTIONS):
        net, age = float(np.exp(rng.normal(-3.0, 1.0))), float(rng.integers(0, 6))
        for bidder, rule in enumerate(rules):
            belief = net * skill[bidder] * float(np.exp(rng.normal(0.0, 0.03)))
            bid = rule_bid(int(rule), belief, belief + 0.004, 2e5, age, 0.0, 1e9)
            rows.append((bidder, auction, 0.0, bid, net))
    features = bidder_features(traces(rows))
    found = cluster_bidders(features, names=("level", "spread"))
    assert found.kinds == 4 == min(found.bic, key=lambda k: found.bic[k])
    assert adjusted_rand_score(rules, found.labels(features)) >= 0.9
    # Left to itself it reads all that differs; what tells nothing about the rule hides kinds.
    blurred = cluster_bidders(features)
    assert set(blurred.features) == {"level", "spread", "elasticity", "won"}
    assert adjusted_rand_score(rules, blurred.labels(features)) < 0.9


def auction_styles(seed: int) -> tuple[np.ndarray, BidTraces]:
    """Early and steady, late and once, raising step by step, high then lowered: 10 of each."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(4), 10)
    rows: list[Row] = []
    for auction in range(30):
        for bidder, kind in enumerate(kinds):
            last = 0.9 * float(np.exp(rng.normal(0.0, 0.1)))
            if kind == 0:
                path, times = last * np.ones(4), [0.5, 2.0, 4.0, 6.0]
            elif kind == 1:
                path, times = last * np.ones(1), [11.5]
            elif kind == 2:
                path, times = last * 1.02 ** np.arange(-19, 1), np.linspace(1, 11, 20).tolist()
            else:
                path, times = last * np.array([1.6, 1.0]), [1.0, 9.0]
            shift = rng.normal(0.0, 0.3)
            noise = np.exp(rng.normal(0.0, 0.002, path.size))
            bids = zip(times, path * noise, strict=True)
            rows += [(bidder, auction, t + shift, float(b), 1.0) for t, b in bids]
    return kinds, traces(rows)


def test_styles_of_bidding_in_time_come_back_and_others_are_assigned() -> None:
    kinds, seen = auction_styles(0)
    features = bidder_features(seen)
    found = cluster_bidders(features)
    assert found.kinds == 4
    assert adjusted_rand_score(kinds, found.labels(features)) == 1.0
    assert np.all(np.diff(found.means[:, 0]) >= 0.0)
    others, unseen = auction_styles(1)
    p = found.assign(bidder_features(unseen))
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert adjusted_rand_score(others, p.argmax(axis=1)) == 1.0
    again = cluster_bidders(features)
    assert again.means.tobytes() == found.means.tobytes()


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_bic_recovers_the_number_of_kinds(kinds: int) -> None:
    """Two features, each three standard deviations apart between neighbouring kinds."""
    rng = np.random.default_rng(kinds)
    planted = np.arange(120) % kinds
    features = np.full((120, len(FEATURES)), np.nan)
    for name in ("level", "first_bid_s"):
        features[:, FEATURES.index(name)] = 3.0 * planted + rng.normal(size=120)
    found = cluster_bidders(features)
    assert found.kinds == kinds
    assert adjusted_rand_score(planted, found.labels(features)) >= 0.9


def test_a_bidder_whose_features_are_not_known_has_no_kind() -> None:
    _, seen = auction_styles(0)
    features = bidder_features(seen)
    found = cluster_bidders(features)
    features[0, FEATURES.index(found.features[0])] = np.nan
    assert found.labels(features)[0] == -1
    assert np.isnan(found.assign(features)[0]).all()
    assert (found.labels(features)[1:] >= 0).all()


def test_files_of_bids(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "who": ["b", "a", "a", None],
            "slot": [7, 7, 9, 9],
            "t_ms": [100, 250, 300, 400],
            "eth": [1.0, 2.0, 0.0, 3.0],
            "usd": [None, 5.0, 1.0, 1.0],
        }
    )
    frame.write_parquet(tmp_path / "bids.parquet")
    read = load_traces(tmp_path / "bids.parquet", "who", "slot", "t_ms", "eth", "usd", 1e-3)
    assert read.names == ("a", "b")  # without the bid of nobody and the bid of zero
    assert read.bidder.tolist() == [1, 0]
    assert read.time_s.tolist() == [0.1, 0.25]
    assert np.isnan(read.size[0])
    assert read.size[1] == 5.0
    with pytest.raises(TracesError, match="no column price; it has who, slot"):
        load_traces(tmp_path / "bids.parquet", "who", "slot", None, "price")
    with pytest.raises(TracesError, match="column who holds String"):
        load_traces(tmp_path / "bids.parquet", "slot", "slot", None, "who")
    with pytest.raises(TracesError, match="no such file"):
        load_traces(tmp_path / "none.parquet", "who", "slot", None, "eth")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(TracesError, match="not readable"):
        load_traces(tmp_path / "bad.parquet", "who", "slot", None, "eth")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((0, 0, 0.0, 0.0, 1.0), "row 1: bid is 0.0"),
        ((0, 0, 0.0, math.inf, 1.0), "bid is inf"),
        ((0, 0, math.nan, 1.0, 1.0), "time_s is nan"),
        ((0, 0, 0.0, 1.0, -1.0), "size is -1.0"),
        ((5, 0, 0.0, 1.0, 1.0), "bidder is 5"),
    ],
)
def test_bad_rows_are_refused(row: Row, words: str) -> None:
    with pytest.raises(TracesError, match=words):
        traces([(0, 0, 0.0, 1.0, 1.0), row], bidders=1)
    with pytest.raises(TracesError, match="at least 3 per kind"):
        cluster_bidders(bidder_features(traces([(0, 0, 0.0, 1.0, 1.0)])))
