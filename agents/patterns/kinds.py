"""What is planted and what is recorded, fitted without labels: regimes and kinds of bidders.

Planted structure is scored by the adjusted Rand index (Hubert and Arabie 1985).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from agents.prices import ETH
from envs.hidden_competition.model import SCENARIOS, record
from envs.market.rivals import CLAMPED, SHARE_80, SHARE_90, TRUE_VALUE, rule_bid
from history.mev import load_cexdex
from history.prices import Bars
from models.forecast_figures import regime_figure
from models.patterns.bidder_clusters import (
    BidTraces,
    bidder_features,
    cluster_bidders,
    load_traces,
)
from models.patterns.regimes import RegimeModel, fit_hidden_markov, fit_mixture
from models.volatility.origins import Origins, build_origins, column

VOLATILITY_REGIMES = 3
HELD_OUT_DAYS = 7
CEXDEX = "mev/cexdex_arb_swaps_2023_08_08.parquet"
BUILDERS = "mev/relay_bids_slot_6214255.parquet"
RULES = {SHARE_80: "80 %", SHARE_90: "90 %", CLAMPED: "clamped", TRUE_VALUE: "true value"}
TIMES = ("log_bids", "first_bid_s", "last_bid_s", "raise")  # what one auction tells of a builder
MIN_BUILDER_BIDS = 3

Table = dict[str, Any]


class Sequences(NamedTuple):
    """Observations [t, d] of sequences laid end to end; the planted regime, where there is one."""

    x: NDArray[np.float64]
    restart: NDArray[np.bool_]
    regime: NDArray[np.int64]


def planted_volatility(seed: int, rows: int, returns: int, stay: float = 0.99) -> Sequences:
    """ln of the mean of `returns` squared Gaussian returns whose variance is 1, 3 or 9."""
    rng = np.random.default_rng(seed)
    moves = rng.random(rows) >= stay
    regime = np.cumsum(np.where(moves, rng.integers(1, 3, rows), 0)) % 3
    realised = rng.chisquare(returns, rows) / returns * 3.0**regime
    restart = np.zeros(rows, np.bool_)
    restart[0] = True
    return Sequences(np.log(realised)[:, None], restart, regime)


def planted_competition(scenario: str, split: str, chains: int, length: int) -> Sequences:
    """(ln(1 - clearing share), ln value) of hidden-competition auctions, nan where nobody bid."""
    recorded = record(SCENARIOS[scenario], split, 0, chains, length)
    top = recorded.top_rival.T.ravel()
    gap = np.where(top >= 0.0, np.log1p(-np.maximum(top, 0.0)), np.nan)
    restart = np.zeros(gap.size, np.bool_)
    restart[::length] = True
    x = np.column_stack([gap, recorded.log_value.T.ravel()])
    return Sequences(x, restart, recorded.regime.T.ravel().astype(np.int64))


def recovered(fitted: Sequences, unseen: Sequences, regimes: int, starts: int = 2) -> Table:
    """ARI on unseen sequences: from the whole, filtered, and by a mixture without memory."""
    model = fit_hidden_markov(fitted.x, regimes, fitted.restart, starts=starts, tolerance=1e-5)
    known = np.isfinite(unseen.x).all(axis=1)
    whole = model.labels(unseen.x, unseen.restart)[known]
    causal = model.filter(unseen.x, unseen.restart).argmax(axis=1)[known]
    seen = fitted.x[np.isfinite(fitted.x).all(axis=1)]
    alone = fit_mixture(seen, regimes).filter(unseen.x, unseen.restart).argmax(axis=1)[known]
    truth = unseen.regime[known]
    return {
        "whole_sequence": float(adjusted_rand_score(truth, whole)),
        "filtered": float(adjusted_rand_score(truth, causal)),
        "mixture": float(adjusted_rand_score(truth, alone)),
        "stay": [float(p) for p in np.diag(model.transition)],
    }


def volatility_regimes(bars: Bars, path: Path | None) -> Table:
    """Regimes of ETH's hourly variance and volume, fitted before the last days, filtered there."""
    eth = next(o for o in build_origins(bars, (60,)) if o.symbol == ETH)
    first = int(eth.minute[-1]) - HELD_OUT_DAYS * 1440
    fitted, held_out = eth.select(eth.minute < first), eth.select(eth.minute >= first)
    model = fit_hidden_markov(
        *(_hourly(fitted), VOLATILITY_REGIMES, _begins(fitted)),
        starts=1,
        iterations=150,
        tolerance=1e-5,
    )
    probabilities = model.filter(_hourly(held_out), _begins(held_out))
    if path:
        regime_figure(held_out.minute, _hourly(held_out)[:, 0], probabilities, path)
    hours = 5.0 / 60.0 / (1.0 - np.diag(model.transition))
    return {
        "source": bars.source,
        "volatility_percent_a_year": _yearly(model),
        "hours_in_a_regime": [float(h) for h in hours],
        "share_of_the_held_out_days": [float(p) for p in probabilities.mean(axis=0)],
    }


def _hourly(origins: Origins) -> NDArray[np.float64]:
    """ln variance per minute of the last hour, and its ln volume relative to the day's."""
    level = origins.inputs[:, column("level")]
    rv60, vo60 = column("rv60"), column("vo60")
    return np.column_stack([origins.inputs[:, rv60] + level, origins.inputs[:, vo60]])


def _begins(origins: Origins) -> NDArray[np.bool_]:
    begins = np.zeros(len(origins), np.bool_)
    begins[origins.starts()] = True
    return begins


def _yearly(model: RegimeModel) -> list[float]:
    return [float(100.0 * np.sqrt(np.exp(m) * 365 * 1440)) for m in model.means[:, 0]]


def recorded_competition(data: Path) -> Table:
    """Do payments of CEX-DEX arbitrages, in basis points of the volume, come in regimes?

    Log likelihood per payment on the second half of the day of models fitted on the first: more
    with memory than without it means that competition persists.
    """
    trades = load_cexdex(data / CEXDEX).drop_nulls("volume")
    share = (trades["mev_value"] / trades["volume"]).to_numpy()
    usable = np.isfinite(share) & (share > 0.0)
    x = np.log(share[usable])[:, None]
    half = len(x) // 2
    rows = {}
    for regimes in (1, 2, 3):
        models = {"memory": fit_hidden_markov(x[:half], regimes)}
        models["mixture"] = fit_mixture(x[:half], regimes)
        rows[str(regimes)] = {n: m.score(x[half:]) / (len(x) - half) for n, m in models.items()}
    return {"payments": len(x), "held_out_log_likelihood": rows}


def planted_rivals(seed: int = 0, auctions: int = 60) -> tuple[NDArray[np.int64], BidTraces]:
    """12 rivals of each rule of the simulated market in the same auctions: (rule, their bids).

    Each misjudges every opportunity a little, some more than others.
    """
    rng = np.random.default_rng(seed)
    rules = np.repeat(list(RULES), 12)
    skill = np.exp(rng.normal(0.0, 0.015, rules.size))
    bids, sizes = np.empty((auctions, rules.size)), np.empty((auctions, rules.size))
    for auction in range(auctions):
        net, age = float(np.exp(rng.normal(-3.0, 1.0))), float(rng.integers(0, 6))
        sizes[auction] = net
        for bidder, rule in enumerate(rules):
            belief = net * skill[bidder] * float(np.exp(rng.normal(0.0, 0.03)))
            bids[auction, bidder] = rule_bid(int(rule), belief, belief + 0.004, 2e5, age, 0.0, 1e9)
    auction, bidder = np.indices(bids.shape)
    traces = BidTraces(
        tuple(f"{RULES[int(rule)]} {k}" for k, rule in enumerate(rules)),
        *(bidder.ravel(), auction.ravel(), np.zeros(bids.size), bids.ravel(), sizes.ravel()),
    )
    return rules, traces


class Kinds(NamedTuple):
    """Bidders with two of their features, the kinds found, and what each really is, if known."""

    features: NDArray[np.float64]
    axes: tuple[str, str]
    found: NDArray[np.int64]
    names: list[str]


def kinds_of_rivals() -> tuple[Kinds, Table]:
    """The planted rules from level and spread, and from all features."""
    rules, traces = planted_rivals()
    features = bidder_features(traces)
    axes = ("level", "spread")
    clusters = cluster_bidders(features, names=axes)
    found, blurred = clusters.labels(features), cluster_bidders(features).labels(features)
    table = {
        "bidders": len(rules),
        "kinds": clusters.kinds,
        "ari": float(adjusted_rand_score(rules, found)),
        "ari_all_features": float(adjusted_rand_score(rules, blurred)),
    }
    return Kinds(features, axes, found, [RULES[int(rule)] for rule in rules]), table


def kinds_of_builders(data: Path) -> tuple[Kinds, Table]:
    """Builders of one recorded slot by when and how often they bid; nobody knows the truth."""
    traces = load_traces(
        data / BUILDERS, "builder_pubkey", "slot", "slot_t_ms", "value_eth", time_unit_s=1e-3
    )
    features = bidder_features(traces)
    often = np.bincount(traces.bidder, minlength=len(traces.names)) >= MIN_BUILDER_BIDS
    features = features[often]
    clusters = cluster_bidders(features, names=TIMES)
    found = clusters.labels(features)
    table = {
        "builders": int(often.sum()),
        "left_out": int((~often).sum()),
        "kinds": clusters.kinds,
        "sizes": np.bincount(found[found >= 0], minlength=clusters.kinds).tolist(),
        "features": list(clusters.features),
        "means": clusters.means.tolist(),
    }
    return Kinds(features, ("first_bid_s", "last_bid_s"), found, []), table
