"""Beliefs: what they are shown, the law they state, and what their training makes of it."""

import numpy as np
import pytest
import torch

from agents.hidden_competition.belief import (
    BIDS,
    CLASSES,
    FORMS,
    MARGINS,
    RECURRENT,
    WINDOW,
    WindowBelief,
    best_bids,
    classes_of,
    no_outcome,
    outcome_seen,
    play,
    rest,
    rivals_of,
    win_probabilities,
)
from agents.hidden_competition.belief_training import (
    BELIEF_SEED,
    CHECK_SEED,
    BeliefConfig,
    NotLearnedError,
    bids_of,
    censored_log_scores,
    check_learned,
    log_scores,
    marginal_law,
    played_by,
    train_belief,
)
from agents.hidden_competition.drawn_laws import drawn_law
from agents.hidden_competition.forecasts import belief_bids, reliability
from agents.hidden_competition.study import LEARNER_SEED, SCALE_SEED, TUNING_SEED
from configs.settings import ConfigError
from envs.hidden_competition.env import HiddenCompetitionEnv
from envs.hidden_competition.model import FRACTIONS, SCENARIOS, HiddenCompetition, record
from envs.hidden_competition.references import (
    CLEARING_PUBLIC,
    bayes_bids,
    bayes_win_probabilities,
    capture,
)
from envs.market.randomness import lane_keys

D = SCENARIOS["D"]
# Two regimes that are far apart: what there is to know is known after a few auctions.
TINY = HiddenCompetition(
    log_rate=(1.4, 1.4), value_shift=(0.0, 0.0), bid_a=(5.0, 20.0), bid_b=(100.0, 10.0),
    persistence=30.0,
)  # fmt: skip
QUICK = BeliefConfig(units=16, chains=64, segment=32)
AUCTIONS = 400_000


@pytest.fixture(scope="module", params=[RECURRENT, WINDOW])
def trained(request: pytest.FixtureRequest) -> tuple[str, torch.nn.Module]:
    return request.param, train_belief(TINY, request.param, QUICK, 0, AUCTIONS)


def test_a_class_says_which_bids_win() -> None:
    rivals = np.concatenate([record(D, "train", 0, 50, 200).top_rival.ravel(), BIDS, [-1.0]])
    wins = rivals[:, None] < BIDS
    assert np.array_equal(classes_of(rivals)[:, None] <= np.arange(BIDS.size), wins)
    assert classes_of(rivals).max() == CLASSES - 1


def test_the_bids_of_a_belief_cost_the_filter_nothing() -> None:
    """The environment's 64 bids do, where rivals bid a half or less: in the first drawn law."""
    law = drawn_law(0)
    chains = record(law, "train", 0, 64, 500)

    def earned(grid: np.ndarray) -> float:
        return float(capture(law, chains, bayes_bids(law, chains, CLEARING_PUBLIC, grid)).mean())

    free = earned(np.linspace(0.0, 1.0, 2001)[:-1])
    assert earned(BIDS) > 0.999 * free
    assert earned(FRACTIONS) < 0.995 * free
    assert np.isin(FRACTIONS, BIDS).all()


def test_a_bid_moves_no_rival_and_is_shown_as_the_environment_shows_it() -> None:
    """The chains are the environment's, whatever is bid; so are clearing share, won and value."""
    rivals = rivals_of(record(D, "train", 3, 6, 50))
    rng = np.random.default_rng(0)
    for bids in (rng.integers(0, BIDS.size, (50, 6)), np.full((50, 6), 5)):
        env = HiddenCompetitionEnv(6, D, 1, 50, seed=3)
        env.reset(seed=3)
        for t in range(49):
            bid = torch.from_numpy(bids[t])
            shown = outcome_seen(rivals.value_z[t], rivals.top_rival[t], bid)
            seen, *_, infos = env.step_fractions(BIDS[bids[t]])
            assert np.array_equal(infos["top_rival"], rivals.top_rival[t].numpy())
            clearing = torch.from_numpy(infos["clearing_fraction"])
            torch.testing.assert_close(shown[:, 0], rest(clearing))
            torch.testing.assert_close(shown[:, 1], rest(torch.from_numpy(BIDS[bids[t]])))
            np.testing.assert_allclose(shown[:, 2:].numpy(), seen[:, [2, 4]], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_segment_gives_the_logits_of_its_auctions_in_turn(form: str) -> None:
    torch.manual_seed(0)
    belief = FORMS[form](8)
    rivals = rivals_of(record(D, "train", 0, 5, 60))
    played = played_by(belief, rivals)
    whole, state = belief(played.seen, belief.start(5))
    torch.testing.assert_close(whole, played.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, played.state, rtol=1e-4, atol=1e-5)
    first, later = rivals_of(record(D, "train", 0, 5, 60)), None
    parts = [type(first)(*(x[a:b] for x in first)) for a, b in ((0, 25), (25, 60))]
    begun = play(belief, parts[0], belief.start(5), no_outcome(5))
    later = play(belief, parts[1], begun.state, begun.outcome)
    torch.testing.assert_close(
        torch.cat([begun.logits, later.logits]), played.logits, rtol=1e-4, atol=1e-5
    )


def test_a_window_forgets_what_a_unit_remembers() -> None:
    torch.manual_seed(0)
    seen = torch.randn(20, 3, 5)
    other = seen.clone()
    other[2] += 1.0  # its outcome part is within 16 auctions of those before the 18th
    for belief, same in ((FORMS[WINDOW](8), True), (FORMS[RECURRENT](8), False)):
        a, b = (belief(x, belief.start(3))[0] for x in (seen, other))
        assert torch.equal(a[18:], b[18:]) is same
        assert not torch.equal(a[17], b[17])
        assert torch.equal(a[:2], b[:2])
    assert isinstance(FORMS[WINDOW](8), WindowBelief)


def test_the_bid_is_the_best_one_under_the_stated_law() -> None:
    torch.manual_seed(0)
    logits = torch.randn(200, CLASSES, dtype=torch.float64) * 3.0
    p = torch.softmax(logits, -1).numpy()
    win = np.array([[row[: j + 1].sum() for j in range(BIDS.size)] for row in p])
    np.testing.assert_allclose(win_probabilities(logits).numpy(), win, atol=1e-12)
    best = (win * (1.0 - BIDS)).argmax(axis=1)
    assert np.array_equal(best_bids(logits).numpy(), best)
    assert len(set(best)) > 5
    assert MARGINS.shape == (BIDS.size,)


def test_a_win_is_scored_as_what_it_tells() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, CLASSES)
    p = torch.softmax(logits, -1)
    label, bid = torch.tensor([0, 10, 20]), torch.tensor([0, 30, 5])
    scores = censored_log_scores(logits, label, bid)
    wanted = torch.stack([p[0, 0], p[1, :31].sum(), p[2, 20]]).log()
    torch.testing.assert_close(scores, wanted)
    torch.testing.assert_close(
        log_scores(logits, label), torch.stack([p[0, 0], p[1, 10], p[2, 20]]).log()
    )


def test_a_trained_belief_states_the_exact_probabilities(
    trained: tuple[str, torch.nn.Module],
) -> None:
    """Referee: the filter that knows the law, on the very history that the belief's bids made."""
    _, belief = trained
    chains = record(TINY, "test", 0, 64, 600)
    played = played_by(belief, rivals_of(chains))  # type: ignore[arg-type]
    grid = np.arange(9, BIDS.size, 18)
    fractions = np.broadcast_to(BIDS[grid], (600, 64, grid.size))
    exact = bayes_win_probabilities(TINY, chains, bids_of(played), fractions)[50:]
    stated = win_probabilities(played.logits).numpy()[50:][..., grid]
    plain = exact.mean(axis=(0, 1))
    assert np.abs(stated - exact).mean() < 0.03
    assert np.abs(plain - exact).mean() > 0.08, "there is something to recover"
    assert np.abs((stated - exact).mean(axis=(0, 1))).max() < 0.02


def test_forecasts_are_scored_beside_the_law_and_the_filter(
    trained: tuple[str, torch.nn.Module],
) -> None:
    _, belief = trained
    chains = record(TINY, "test", 0, 64, 600)
    law = marginal_law(rivals_of(record(TINY, "train", 9, 64, 600)).label)
    bids, found = belief_bids(belief, TINY, chains, law, 50)  # type: ignore[arg-type]
    scores, brier = found["log_score"], found["brier"]
    assert scores["law"] + 0.1 < scores["belief"] < scores["filter"]
    assert scores["filter"] - scores["belief"] < 0.06
    assert brier["filter"] - 0.001 < brier["belief"] < brier["law"] - 0.02
    assert found["reliability"]["error"] < 0.02
    assert np.isin(bids, BIDS).all()
    assert sum(found["reliability_own_bid"]["auctions"]) == 550 * 64


def test_seeds_give_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        belief = train_belief(TINY, WINDOW, QUICK, seed, 64_000)
        return torch.nn.utils.parameters_to_vector(belief.parameters())

    before = torch.random.get_rng_state()
    first = weights(1)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's draws stay"
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_training_validation_and_test_chains_are_disjoint() -> None:
    used = {
        ("train", seed)
        for s in range(50)
        for seed in (BELIEF_SEED + s, LEARNER_SEED + s, TUNING_SEED, SCALE_SEED)
    }
    used |= {("validation", 0), ("validation", CHECK_SEED), ("test", 0), ("test", 1)}
    keys = [lane_keys(split, seed, 64) for split, seed in sorted(used)]
    assert np.unique(np.concatenate(keys)).size == sum(map(len, keys))


def test_a_belief_that_is_not_trained_is_noticed() -> None:
    with pytest.raises(NotLearnedError, match="the law without inputs"):
        train_belief(TINY, RECURRENT, BeliefConfig(units=16, segment=500, passes=1), 0, 20_000)
    torch.manual_seed(0)
    law = marginal_law(rivals_of(record(TINY, "train", 0, 64, 500)).label)
    with pytest.raises(NotLearnedError):
        check_learned(FORMS[WINDOW](16), TINY, law)


def test_reliability_is_the_share_won_by_level_of_stated_probability() -> None:
    stated = np.array([0.02, 0.04, 0.52, 0.54, 0.52, 1.0])
    won = np.array([False, False, True, True, False, True])
    found = reliability(stated, won)
    assert found["auctions"] == [2, 3, 1]
    np.testing.assert_allclose(found["stated"], [0.03, 1.58 / 3, 1.0])
    np.testing.assert_allclose(found["won"], [0.0, 2 / 3, 1.0])
    assert found["error"] == pytest.approx((2 * 0.03 + 3 * (2 / 3 - 1.58 / 3)) / 6)
    rng = np.random.default_rng(0)
    p = rng.uniform(size=200_000)
    assert reliability(p, rng.uniform(size=p.size) < p)["error"] < 0.01
    assert reliability(p, rng.uniform(size=p.size) < p**2)["error"] > 0.1


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="labels is 'bids'"):
        BeliefConfig(labels="bids")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"explore is 1\.5"):
        BeliefConfig(explore=1.5)
    with pytest.raises(ValueError, match="form 'lstm': choose one of recurrent, window"):
        train_belief(TINY, "lstm", QUICK, 0, 1000)
