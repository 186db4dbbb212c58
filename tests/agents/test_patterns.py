"""What is planted comes back from public traces; histories hold the past alone."""

from pathlib import Path

import numpy as np
import pytest

from agents.hidden_competition.window_or_filter import (
    WINDOW,
    filter_features,
    learned_bids,
    window_features,
)
from agents.patterns.__main__ import main
from agents.patterns.kind_figures import competition_figure, kinds_figure
from agents.patterns.kinds import (
    kinds_of_rivals,
    planted_competition,
    planted_volatility,
    recovered,
)
from envs.hidden_competition.model import SCENARIOS, record
from envs.hidden_competition.references import capture


def test_planted_volatility_comes_back_and_memory_pays_where_bars_are_noisy() -> None:
    rows = [planted_volatility(seed, 4000, 5) for seed in (0, 1)]
    scores = recovered(rows[0], rows[1], 3)
    assert scores["whole_sequence"] >= 0.95
    assert scores["filtered"] >= 0.85
    assert scores["mixture"] < 0.5


def test_planted_competition_comes_back_from_clearing_bids() -> None:
    fitted, unseen = (planted_competition("S", split, 8, 500) for split in ("train", "validation"))
    assert recovered(fitted, unseen, 3, starts=1)["filtered"] >= 0.95


def test_rules_of_rivals_come_back_and_are_drawn(tmp_path: Path) -> None:
    kinds, table = kinds_of_rivals()
    assert table["kinds"] == 4
    assert table["ari"] >= 0.9 > table["ari_all_features"]
    kinds_figure({"rules": kinds}, tmp_path / "kinds.svg")
    p = np.full((50, 3), 1.0 / 3.0)
    competition_figure(np.full(50, -1.0), np.arange(50) % 3, p, tmp_path / "competition.svg")
    assert "<svg" in (tmp_path / "kinds.svg").read_text()
    assert "<svg" in (tmp_path / "competition.svg").read_text()


def test_histories_hold_the_past_alone() -> None:
    chains = record(SCENARIOS["D"], "train", 3, 2, 200)
    changed = chains.top_rival.copy()
    changed[150:] = 0.99
    other = chains._replace(top_rival=changed)
    fitted = record(SCENARIOS["D"], "train", 4, 4, 300)
    for histories in (window_features, lambda c: filter_features(fitted, c, 2)):
        ours, theirs = histories(chains), histories(other)
        np.testing.assert_array_equal(ours[:151], theirs[:151])
        assert (ours[151] != theirs[151]).any()
    window = window_features(chains)
    assert window[100, 1, 2 * WINDOW - 1] == np.float32(chains.log_value[100 - WINDOW, 1])


def test_learned_bids_use_the_history() -> None:
    model = SCENARIOS["S"]
    fitted, unseen = record(model, "train", 1, 16, 600), record(model, "validation", 0, 16, 300)
    shares = []
    for histories in (lambda c: c.log_value[..., None].astype(np.float32), window_features):
        bids = learned_bids(histories(fitted), fitted, histories(unseen), 0)
        shares.append(capture(model, unseen, bids)[WINDOW:].mean())
    assert shares[1] > 1.2 * shares[0]


def test_a_folder_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "nowhere"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
