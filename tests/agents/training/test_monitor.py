"""TensorBoard holds what the market did, under readable names, once per rollout."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.config import PPOConfig, TrialsConfig
from agents.training.trial import Training, Trial, TrialInputs
from envs.market.config import MarketConfig, PricePaths

PPO = PPOConfig(
    num_envs=32, rollout_slots=8, minibatch=128, epochs=1, hidden=(16,), learning_rate=1e-3
)
TRIALS = TrialsConfig(seeds=1, steps=1024, reports=2, validation_envs=16)


@pytest.fixture
def events(tmp_path: Path, market: MarketConfig, paths: PricePaths) -> EventAccumulator:
    inputs = TrialInputs(market, paths, PPO, TRIALS, 0.05, str(tmp_path))
    training = Training(Trial("one", 0, 1e-3), inputs)
    training.advance()
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    training.save(checkpoint)
    training.advance()
    training.load(checkpoint)  # as after a kill: the second half is learned again
    training.advance()
    training.close()
    accumulator = EventAccumulator(str(tmp_path / "one"))
    accumulator.Reload()
    return accumulator


def test_names_points_and_ranges(events: EventAccumulator) -> None:
    tags = events.Tags()
    assert "Bids/fraction of net profit" in tags["histograms"]
    assert "Bids/fraction by value" in tags["images"]
    image = events.Images("Bids/fraction by value")[0]
    assert image.encoded_image_string.startswith(b"\x89PNG")
    for name in (
        "Profit/per slot (ETH)",
        "Profit/share of best response",
        "Auctions/win rate",
        "Losses/outbid, share of bids",
        "Losses/stale pools, share of bids",
        "Losses/profit below gas, share of bids",
        "Validation/IQM profit per episode (ETH)",
        "Learning/rate",
        "Learning/negative entropy",
        "Speed/decisions learned from per second",
    ):
        assert name in tags["scalars"]
    rate = events.Scalars("Auctions/win rate")
    steps = [point.step for point in rate]
    assert steps == [256, 512, 768, 1024], "one point per rollout, none twice after a restore"
    assert all(0.0 < point.value < 1.0 for point in rate)
    assert events.Scalars("Learning/rate")[-1].value == pytest.approx(0.25e-3)
    settings = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for name in (b"learning_rate", b"rollout_slots", b"hidden"):
        assert name in settings, "the HParams page compares trials by it"
    histogram = events.Histograms("Bids/fraction of net profit")[0].histogram_value
    assert 0.0 <= histogram.min <= histogram.max <= 0.99
    assert np.isclose(histogram.num, round(histogram.num))
