"""Kinds of bidders from their public traces, unsupervised: when they bid, how high, how steadily.

Each bidder's bids are summed up in a few numbers, and a Gaussian mixture over them finds the kinds;
their number is chosen by BIC (Schwarz 1978). Nothing but published bids is read: no labels, no
values that only the bidder knows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.mixture import GaussianMixture

FEATURES = (
    "log_bids",  # mean ln of the number of bids in an auction
    "first_bid_s",  # mean time of the first bid
    "last_bid_s",  # mean time of the last bid
    "raise",  # median ln of a bid over the bidder's bid before it in the auction, 0 without
    "lowered",  # share of such steps that go down
    "level",  # median ln of the last bid over the size of what is sold
    "spread",  # its interquartile range as a standard deviation
    "elasticity",  # slope of ln last bid on ln size: 1 for a fixed fraction
    "won",  # share of auctions in which nobody's last bid was higher
)
MIN_AUCTIONS_FOR_SLOPE = 5
NORMAL_IQR = 1.349  # interquartile range of a standard normal
VARIANCE_FLOOR = 0.0025  # of standardised features: identical bidders are no infinite peak
OUTLIER = 5.0  # standardised features are cut here
MIN_BIDDERS_PER_KIND = 3  # fewer are outliers, not a kind


class TracesError(ValueError):
    """Bid traces that cannot be used; the message names the column, the value and the remedy."""


@dataclass(frozen=True)
class BidTraces:
    """Published bids, one per row; `bidder` counts from 0 in the order of `names`."""

    names: tuple[str, ...]
    bidder: np.ndarray  # int64[n]
    auction: np.ndarray  # int64[n]
    time_s: np.ndarray  # float64[n], from any origin common to an auction
    bid: np.ndarray  # float64[n], > 0
    size: np.ndarray  # float64[n], what is sold (its value or volume); nan where unknown

    def __post_init__(self) -> None:
        rows = {self.bidder.size, self.auction.size, self.time_s.size, self.bid.size}
        if rows != {self.size.size}:
            raise TracesError(f"traces: columns of {sorted(rows)} rows; give equal lengths")
        if not self.bid.size:
            raise TracesError("traces: no bids; give at least one")
        for name, wrong in (
            ("bid", ~(np.isfinite(self.bid) & (self.bid > 0.0))),
            ("time_s", ~np.isfinite(self.time_s)),
            ("size", ~(np.isnan(self.size) | ((self.size > 0.0) & (self.size < np.inf)))),
            ("bidder", (self.bidder < 0) | (self.bidder >= len(self.names))),
        ):
            if wrong.any():
                at = int(np.argmax(wrong))
                raise TracesError(
                    f"traces: row {at}: {name} is {getattr(self, name)[at]}; leave such rows out "
                    f"({int(wrong.sum())} of {wrong.size})"
                )


def load_traces(
    path: str | Path,
    bidder: str,
    auction: str,
    time: str | None,
    bid: str,
    size: str | None = None,
    time_unit_s: float = 1.0,
) -> BidTraces:
    """Read traces from the named columns of a .parquet or .csv file; rows without a bid are left.

    `time` is in units of `time_unit_s` seconds. Raises TracesError.
    """
    path = Path(path)
    if not path.is_file():
        raise TracesError(f"{path}: no such file; give a .parquet or .csv file of bids")
    try:
        frame = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TracesError(f"{path}: not readable: {str(error).splitlines()[0]}") from error
    wanted = [c for c in (bidder, auction, time, bid, size) if c is not None]
    if missing := [c for c in wanted if c not in frame.columns]:
        raise TracesError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(frame.columns)}"
        )
    for column in (time, bid, size):
        if column is not None and not frame[column].dtype.is_numeric():
            raise TracesError(f"{path}: column {column} holds {frame[column].dtype}, not numbers")
    frame = frame.filter(
        pl.col(bidder).is_not_null() & pl.col(auction).is_not_null() & (pl.col(bid) > 0)
    )
    names = frame[bidder].cast(pl.String).unique().sort()
    index = {name: k for k, name in enumerate(names)}
    ones = np.ones(len(frame))
    sizes = frame[size].cast(pl.Float64).fill_null(np.nan).to_numpy() if size else ones * np.nan
    return BidTraces(
        names=tuple(names),
        bidder=np.array([index[n] for n in frame[bidder].cast(pl.String)], np.int64),
        auction=frame[auction].cast(pl.String).rank("dense").to_numpy().astype(np.int64),
        time_s=frame[time].cast(pl.Float64).to_numpy() * time_unit_s if time else 0.0 * ones,
        bid=frame[bid].cast(pl.Float64).to_numpy(),
        size=np.where(sizes > 0.0, sizes, np.nan),
    )


def bidder_features(traces: BidTraces) -> np.ndarray:
    """float64[bidders, len(FEATURES)]; nan where a bidder's traces do not tell."""
    bids = (
        pl.DataFrame(
            {
                "bidder": traces.bidder,
                "auction": traces.auction,
                "time": traces.time_s,
                "bid": np.log(traces.bid),
                "size": np.log(traces.size),
            }
        )
        .with_columns(pl.col("size").fill_nan(None))
        .sort("auction", "bidder", "time", maintain_order=True)
    )
    entry = ["bidder", "auction"]
    bids = bids.with_columns(pl.col("bid").diff().over(entry).alias("step"))
    steps = bids.group_by("bidder").agg(
        pl.col("step").median().fill_null(0.0).alias("raise"),
        (pl.col("step") < 0.0).mean().fill_null(0.0).alias("lowered"),
    )
    entries = bids.group_by(entry, maintain_order=True).agg(
        pl.len().log().alias("log_bids"),
        pl.col("time").first().alias("first"),
        pl.col("time").last().alias("last"),
        pl.col("bid").last(),
        pl.col("size").last(),
    )
    entries = entries.with_columns(
        (pl.col("bid") >= pl.col("bid").max().over("auction")).alias("won"),
        (pl.col("bid") - pl.col("size")).alias("share"),
    )
    share = pl.col("share").drop_nulls()
    known = pl.col("size").is_not_null()
    slope = pl.cov(pl.col("bid").filter(known), pl.col("size").filter(known))
    slope = slope / pl.col("size").filter(known).var()
    features = entries.group_by("bidder").agg(
        pl.col("log_bids").mean(),
        pl.col("first").mean().alias("first_bid_s"),
        pl.col("last").mean().alias("last_bid_s"),
        share.median().alias("level"),
        ((share.quantile(0.75) - share.quantile(0.25)) / NORMAL_IQR).alias("spread"),
        pl.when(known.sum() >= MIN_AUCTIONS_FOR_SLOPE).then(slope).alias("elasticity"),
        pl.col("won").mean(),
    )
    table = pl.DataFrame({"bidder": np.arange(len(traces.names))}).join(
        features.join(steps, on="bidder"), on="bidder", how="left", maintain_order="left"
    )
    return table.select(pl.col(FEATURES).cast(pl.Float64).fill_null(np.nan)).to_numpy()


@dataclass(frozen=True)
class BidderClusters:
    """Kinds of bidders; `assign` tells those of others by the same mixture."""

    features: tuple[str, ...]  # those that differ between bidders and are known
    centre: np.ndarray  # float64[f], medians
    scale: np.ndarray  # float64[f], interquartile ranges as standard deviations
    mixture: GaussianMixture
    bic: dict[int, float]  # number of kinds -> least BIC

    @property
    def kinds(self) -> int:
        """Number of kinds."""
        return int(self.mixture.n_components)

    @property
    def means(self) -> np.ndarray:
        """Mean features of each kind in their own units, float64[kinds, f]."""
        return np.asarray(self.mixture.means_) * self.scale + self.centre

    def assign(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of the kinds float64[n, kinds] for rows of `bidder_features`.

        A bidder whose features are not all known gets nan.
        """
        columns = [FEATURES.index(name) for name in self.features]
        x = np.clip((features[:, columns] - self.centre) / self.scale, -OUTLIER, OUTLIER)
        known = np.isfinite(x).all(axis=1)
        out = np.full((len(x), self.kinds), np.nan)
        if known.any():
            out[known] = self.mixture.predict_proba(x[known])
        return out

    def labels(self, features: np.ndarray) -> np.ndarray:
        """Most probable kind int64[n], -1 where the features are not all known."""
        p = self.assign(features)
        known = np.isfinite(p).all(axis=1)
        labels = np.full(len(p), -1)
        labels[known] = p[known].argmax(axis=1)
        return labels


def cluster_bidders(
    features: np.ndarray,
    kinds: range = range(1, 7),
    names: tuple[str, ...] | None = None,
    seed: int = 0,
) -> BidderClusters:
    """Fit the mixture with the least BIC over `kinds` and over tied, diagonal, full covariances.

    features float64[bidders, len(FEATURES)] of bidders seen often enough (the caller decides);
    `names` chooses some of them, by default all that are known of nine bidders in ten and differ
    between bidders. Kinds are in rising order of their mean of the first feature. Raises
    TracesError when too few bidders are left.
    """
    usable = _differing(features) if names is None else names
    columns = [FEATURES.index(name) for name in usable]
    x = features[:, columns]
    x = x[np.isfinite(x).all(axis=1)]
    if len(x) < MIN_BIDDERS_PER_KIND * kinds.start or not columns:
        raise TracesError(
            f"{len(x)} bidders with known features {', '.join(usable) or '(none differs)'}; at "
            f"least {MIN_BIDDERS_PER_KIND} per kind are needed"
        )
    centre, scale = _robust_scale(x)
    z = np.clip((x - centre) / scale, -OUTLIER, OUTLIER)
    bic: dict[int, float] = {}
    best: GaussianMixture | None = None
    for k in kinds[: len(x) // MIN_BIDDERS_PER_KIND]:
        for covariance in ("tied", "diag", "full"):
            mixture = GaussianMixture(
                k,
                covariance_type=covariance,
                reg_covar=VARIANCE_FLOOR,
                n_init=5,
                max_iter=300,
                random_state=seed,
            ).fit(z)
            value = float(mixture.bic(z))
            smallest = np.bincount(mixture.predict(z), minlength=k).min()
            if smallest < MIN_BIDDERS_PER_KIND and k > kinds.start:
                continue
            bic[k] = min(bic.get(k, np.inf), value)
            if best is None or value < best.bic(z):
                best = mixture
    assert best is not None  # the least number of kinds is always kept
    return BidderClusters(tuple(usable), centre, scale, _ordered(best), bic)


def _differing(features: np.ndarray) -> tuple[str, ...]:
    known = np.isfinite(features)
    enough = known.mean(axis=0) >= 0.9
    flat = [np.unique(features[known[:, k], k]).size < 3 for k in range(features.shape[1])]
    return tuple(n for n, e, f in zip(FEATURES, enough, flat, strict=True) if e and not f)


def _robust_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and interquartile range as a standard deviation; the latter itself if that is 0."""
    low, centre, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    scale = (high - low) / NORMAL_IQR
    return centre, np.where(scale > 0.0, scale, x.std(axis=0) + 1e-12)


def _ordered(mixture: GaussianMixture) -> GaussianMixture:
    order = np.argsort(np.asarray(mixture.means_)[:, 0], kind="stable")
    names = ["weights_", "means_"]
    if mixture.covariance_type != "tied":  # else all kinds share one
        names += ["covariances_", "precisions_", "precisions_cholesky_"]
    for name in names:
        setattr(mixture, name, getattr(mixture, name)[order])
    return mixture
