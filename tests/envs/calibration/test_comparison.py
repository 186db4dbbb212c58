"""The comparison with recorded markets: its distances are right and its report is complete."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.eras import PRESETS
from envs.calibration.__main__ import main
from envs.calibration.distance import autocorrelation, distance, ranges, response
from envs.calibration.per_block import ERAS, MEASURES
from envs.calibration.quantities import QUANTITIES
from envs.calibration.recorded import BIDS, SAMPLES
from envs.calibration.report import markdown
from envs.calibration.rows import Row, compare
from envs.calibration.simulated import PER_BLOCK, simulated_samples
from envs.market.config import MarketConfig
from tests.support.recorded import data_file
from tests.support.worlds import BARE, paths

SAMPLE = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 7.5]), min_size=1, max_size=40)


@given(SAMPLE, SAMPLE)
def test_kolmogorov_smirnov_is_the_largest_gap(one: list[float], other: list[float]) -> None:
    def below(sample: list[float], x: float) -> float:
        return sum(value <= x for value in sample) / len(sample)

    largest = max(abs(below(one, x) - below(other, x)) for x in [*one, *other])
    found = distance(np.array(one), np.array(other)).kolmogorov_smirnov
    assert found == pytest.approx(largest)


def test_a_factor_is_its_ln() -> None:
    sample = np.random.default_rng(1).lognormal(0.0, 1.5, 5000)
    assert distance(sample, 2.0 * sample).ln_quantiles == pytest.approx(np.log(2.0))
    assert distance(sample, sample).kolmogorov_smirnov == 0.0
    with_zeros = np.concatenate([np.zeros(500), sample])
    assert np.isnan(distance(with_zeros, with_zeros).ln_quantiles)
    floored = distance(with_zeros, np.concatenate([np.full(500, 1e-9), sample]), floor=1e-3)
    assert floored.ln_quantiles == 0.0


def test_autocorrelation_stays_within_segments() -> None:
    rng = np.random.default_rng(2)
    values = np.zeros(40_000)
    for k, noise in enumerate(rng.normal(size=values.size)):
        values[k] = 0.6 * values[k - 1] + noise
    whole = np.zeros(values.size, np.int64)
    np.testing.assert_allclose(autocorrelation(values, whole, (1, 2)), [0.6, 0.36], atol=0.02)
    # Every second step belongs to another segment: no pair at lag 1 is left in one.
    pairs = np.repeat(np.arange(values.size // 2), 2)
    mixed = values.reshape(-1, 2).copy()
    mixed[:, 1] = mixed[:, 0]
    assert autocorrelation(mixed.ravel(), pairs, (1,))[0] == pytest.approx(1.0, abs=0.02)


def test_ranges_leave_out_what_is_not_whole() -> None:
    levels = np.array([1.0, 4.0, 2.0, 2.5, 9.0, 0.0, 5.0, 5.5])
    segment = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    assert ranges(levels, segment, 2).tolist() == [3.0, 0.5, 5.0]


def test_the_response_to_a_recent_mean_is_found() -> None:
    rng = np.random.default_rng(3)
    levels = rng.normal(0.0, 0.1, 20_000).cumsum()
    mean, answers = 0.0, np.empty(levels.size)
    for k, level in enumerate(levels):
        answers[k] = 1.0 - 0.7 * (level - mean) + rng.normal(0.0, 0.05)
        mean += (1.0 - np.exp(-1.0 / 10)) * (level - mean)
    halves = np.repeat([0, 1], levels.size // 2)
    # The second half starts a mean of its own, which is used once it has forgotten its start.
    np.testing.assert_allclose(response(levels, answers, halves, (10,)), [-0.7], atol=0.01)


def test_every_quantity_has_a_sample_on_both_sides() -> None:
    config = MarketConfig(era="2021").changed({"episode_slots": 320, "ticks_per_slot": 3})
    simulated = simulated_samples(config, paths(), lanes=64, slots=400)
    assert all(np.all(np.isfinite(values)) and values.size for values in simulated.values())
    names = {quantity.name for quantity in QUANTITIES}
    assert names - set(SAMPLES) == {"informed_share"}
    assert set(SAMPLES) <= names
    wanted = {quantity.sample for quantity in QUANTITIES}
    # Informed payments of all pools together are the sample of markets without classes.
    assert set(simulated) - wanted == {*PER_BLOCK, "cexdex_payment"}
    assert wanted <= set(simulated)
    # The same markets give the same samples, however they are batched with others.
    again = simulated_samples(config, paths(), lanes=64, slots=400)
    for name, values in simulated.items():
        np.testing.assert_array_equal(values, again[name])


def test_samples_per_block_add_up() -> None:
    config = MarketConfig(era="2021").changed({"episode_slots": 256, "blocks.missed_share": 0.0})
    found = simulated_samples(config, paths(), lanes=32, slots=200)
    assert found["block_opportunities"].sum() == found["cycle_gross"].size > 0
    assert found["block_gross"].sum() == pytest.approx(found["cycle_gross"].sum())
    assert found["block_payment"].sum() == pytest.approx(found["bundle_payments"].sum())
    # Every long-tail swap reaches the least size, but for those that the depth of a pool caps.
    least = config.users.size_eth_least
    capped = config.users.size_max * found["pool_depth_tail"].max()
    assert np.all(found["user_sizes_tail"] <= 1.5 * capped)
    assert np.median(found["user_sizes_tail"]) >= 0.5 * least


def test_missing_data_is_said_in_the_rows(tmp_path: Path) -> None:
    (tmp_path / "mev").mkdir()
    times = [-6500, -4000, 0, 900]
    pl.DataFrame(
        {
            "slot": [6_214_255] * 4,
            "slot_t_ms": times,
            "value_eth": [0.1, 0.2, 0.3, 0.4],
            "block_hash": ["a", "b", "c", "d"],
            "builder_pubkey": ["x"] * 4,
        }
    ).write_parquet(tmp_path / BIDS)
    found = compare(tmp_path, {"2023": {"best_bids": np.ones(15)}})
    rows = {row.quantity.name: row for row in found}
    bids = rows["best_bids"]
    assert "simulated: mean of" in bids.note
    assert "held_out: one slot" in bids.note
    fitted = bids.sides["fitted"]
    assert fitted is not None
    assert fitted[0] == pytest.approx(0.25)
    entry = bids.as_json()
    assert entry["fitted"]["largest_gap"] == pytest.approx(0.75)
    assert entry["held_out"] is entry["agrees"] is None
    assert "no such file" in rows["priority_fees"].note
    assert "simulated: none was seen" in rows["priority_fees"].note
    report: dict[str, Any] = {"setting": "setting.", "per_block": {}, "agent": {}}
    text = markdown(found, report, "command", "figures")
    assert text.count("![") == 2  # what nobody knows has no figure: bids and the published share
    kinds = [line for line in text.splitlines() if line.startswith("| ") and "not told" in line]
    assert len(kinds) == len(rows)


def test_a_far_quantity_is_called_far() -> None:
    near, far = np.linspace(1.0, 2.0, 500), np.linspace(4.0, 8.0, 500)
    quantity = next(q for q in QUANTITIES if q.name == "cycle_gross")
    for ours, agrees in ((near, True), (far, False)):
        row = Row(quantity, {"fitted": far, "held_out": near, "simulated": ours}, "")
        entry = row.as_json()
        assert entry["agrees"] is agrees
        assert entry["between_windows"]["kolmogorov_smirnov"] == 1.0
        assert entry["held_out"]["window"] == quantity.split.words("held_out")


def test_the_command_needs_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MEVRL_DATA", raising=False)
    assert main([]) == 2
    assert "give --data or set MEVRL_DATA" in capsys.readouterr().err


def test_the_command_writes_what_was_asked_for(tmp_path: Path) -> None:
    data = data_file("price").parent
    arguments = ["--data", str(data), "--markets", "16", "--slots", "260"]
    arguments += ["--json", str(tmp_path / "x.json"), "--figures", str(tmp_path / "figures")]
    (tmp_path / "x.md").write_text("old table\n\n## Reading\nWhat it means.\n")
    assert main([*arguments, "--report", str(tmp_path / "x.md")]) == 0
    report = json.loads((tmp_path / "x.json").read_text())
    quantities = report["quantities"]
    assert set(quantities) == {quantity.name for quantity in QUANTITIES}
    assert quantities["gas_used_ratio"]["held_out"]["kolmogorov_smirnov"] < 0.1
    for side, median in (("fitted", 0.036), ("held_out", 0.036)):
        told = quantities["bundle_payments"][side]
        assert told["quantiles"]["50"] == pytest.approx(median, abs=0.004)
        assert {"window", "n", "mean", "kolmogorov_smirnov", "ln_quantiles"} <= set(told)
    assert set(report["per_block"]) == set(ERAS)
    for era, measures in report["per_block"].items():
        assert set(measures) == set(MEASURES)
        for measure, entry in measures.items():
            assert {"simulated", "fitted", "held_out", "low", "high"} <= set(entry)
            assert entry["simulated"] > 0.0
            told = [entry[key] for key in ("fitted", "held_out", "low", "high")]
            if "reason" in entry:
                assert told == [None] * 4, (era, measure)
            else:
                assert entry["low"] <= entry["held_out"] <= entry["high"]
    assert report["per_block"]["2021"]["payment_eth"]["held_out"] == pytest.approx(0.087, abs=0.002)
    assert set(report["agent"]) == set(PRESETS)
    assert all(a["best_response_eth"] >= a["profit_eth"] for a in report["agent"].values())
    assert len(list((tmp_path / "figures").glob("*.png"))) == len(QUANTITIES)
    text = (tmp_path / "x.md").read_text()
    assert "![Gas used / target, 2023](figures/gas_used_ratio.png)" in text
    assert "old table" not in text
    assert text.endswith("## Reading\nWhat it means.\n")


def _bare(**changes: Any) -> dict[str, np.ndarray]:
    config = MarketConfig(era="rich").changed(BARE | changes)
    return simulated_samples(config, paths(), lanes=32, slots=256)


def test_backruns_lie_directly_behind_their_targets_but_for_unseen_swaps() -> None:
    assert np.all(_bare()["backrun_gap"] == 1.0)
    ahead_share = "users.private_ahead_share"
    hidden: dict[str, Any] = {"users.private_share": 0.6, "users.refund_share": 0.0}
    assert np.all(_bare(**(hidden | {ahead_share: 0.0}))["backrun_gap"] == 1.0)
    ahead = _bare(**(hidden | {ahead_share: 1.0}))
    assert 0.05 < np.mean(ahead["backrun_gap"] > 1.0) < 0.6
    np.testing.assert_array_equal(ahead["backrun_gap"] == 1.0, ahead["backrun_adjacent"] == 1.0)
    some = _bare(**(hidden | {ahead_share: 0.5}))
    assert some["backrun_adjacent"].mean() > ahead["backrun_adjacent"].mean() + 0.02


def test_informed_trades_are_bundles_of_proposers_who_take_them() -> None:
    alone: dict[str, Any] = {"users.rate": 1e-12, "users.swap_gas": 1, "gas.per_arbitrage": 10**15}
    alone["informed.probability"] = 0.5
    boost = "blocks.mev_boost_share"
    found = _bare(**(alone | {boost: 1.0}))
    assert found["informed_share"] == 1.0
    assert np.all(found["bundle_payments"] > 0.0)
    # Every block with one trade told its payment: those with one bundle, exactly.
    assert found["cexdex_payment"].size == np.count_nonzero(found["bundles_per_block"] == 1.0) > 0
    half = _bare(**(alone | {boost: 0.5}))
    share = half["bundle_block"].mean() / found["bundle_block"].mean()
    assert share == pytest.approx(0.5, abs=0.06)
    assert not _bare(**(alone | {boost: 0.0}))["bundle_block"].any()
