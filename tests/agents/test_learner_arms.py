"""Arms of the learner: what is hidden stays hidden, in training, in the network, in play."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from agents.bidders.arms import POLICY, play
from agents.config import (
    DEFAULT_CONFIG,
    ConfigError,
    PPOConfig,
    TrainConfig,
    TrialsConfig,
    read_arguments,
)
from agents.evaluate.freeze import compared, served, trained_network
from agents.learner.actor import actor_of
from agents.learner.vecenv import MarketVecEnv
from agents.learner_arms import (
    INGREDIENTS,
    LEARNER_ARMS,
    Choice,
    bidder_of,
    blind_columns,
)
from agents.measures.intervals import iqm
from agents.training.trial import VALIDATION_SEED, Training, Trial, TrialInputs, planned_trials
from agents.training.trials import TrialResult
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS, BIDS, PASS
from kernels.market.observation import FIELDS, HISTORY_START, SIZE
from models.frozen import compile_network
from models.policy.masked import network_of

PPO = PPOConfig(
    num_envs=32, rollout_slots=8, minibatch=128, epochs=1, hidden=(16,), learning_rate=1e-3
)
TRIALS = TrialsConfig(seeds=1, steps=1024, reports=2, validation_envs=16)


@pytest.fixture
def inputs(tmp_path: Path, market: MarketConfig, paths: PricePaths) -> TrialInputs:
    return TrialInputs(market, paths, PPO, TRIALS, 0.05, str(tmp_path / "tb"))


def trained(inputs: TrialInputs, arm: str) -> Training:
    training = Training(Trial(f"{arm}-seed-0", 0, 1e-3, arm=arm), inputs)
    training.advance()
    training.close()
    return training


def seen_in_play(inputs: TrialInputs) -> np.ndarray:
    """Observations float32[48, SIZE] in the middle of episodes of a searcher that bids."""
    env = MarketVectorEnv(48, inputs.market, inputs.paths, split="test")
    observations, _ = env.reset(seed=3)
    for _ in range(40):
        allowed = env.action_masks()
        observations, *_ = env.step(allowed.shape[1] - 1 - allowed[:, ::-1].argmax(axis=1))
    return observations


def test_fields_are_hidden_by_name() -> None:
    assert blind_columns(("auction",)).tolist() == list(range(HISTORY_START, SIZE))
    hidden = [FIELDS[k].name for k in blind_columns(("forecast_",))]
    assert hidden == ["forecast_5m", "forecast_15m", "forecast_60m"]
    assert blind_columns(()).size == 0
    with pytest.raises(ValueError, match="'forecasts': no observation field"):
        blind_columns(("forecasts",))


def test_the_adapter_hides_columns_and_nothing_else(
    market: MarketConfig, paths: PricePaths
) -> None:
    """Over episode ends, terminal observations included."""
    blind = blind_columns(("auction", "base_fee"))
    open_, closed = (
        MarketVecEnv(MarketVectorEnv(8, market, paths, seed=4), blind=columns)
        for columns in (None, blind)
    )
    kept = np.setdiff1d(np.arange(SIZE), blind)
    whole, part = np.asarray(open_.reset()), np.asarray(closed.reset())
    hidden, ends = 0.0, 0
    for _ in range(market.episode_slots * market.ticks_per_slot + 2):
        assert np.array_equal(part[:, kept], whole[:, kept])
        assert not part[:, blind].any()
        hidden += np.abs(whole[:, blind]).sum()
        actions = open_.action_masks()[:, 20].astype(np.int64) * 20
        assert np.array_equal(closed.action_masks(), open_.action_masks())
        seen, rewards, dones, infos = open_.step(actions)
        hidden_seen, their_rewards, _, their_infos = closed.step(actions)
        whole, part = np.asarray(seen), np.asarray(hidden_seen)
        assert np.array_equal(rewards, their_rewards)
        for lane in np.flatnonzero(dones):
            ends += 1
            last, theirs = (i[lane]["terminal_observation"] for i in (infos, their_infos))
            assert np.array_equal(theirs[kept], last[kept])
            assert not theirs[blind].any()
    assert hidden > 0.0
    assert ends == 8


@pytest.mark.parametrize("lstm", [0, 8])
def test_the_network_alone_is_blind(inputs: TrialInputs, lstm: int) -> None:
    """On whole observations it answers as the trained one does on those with the fields zeroed."""
    inputs = dataclasses.replace(inputs, ppo=dataclasses.replace(PPO, lstm=lstm))
    training = trained(inputs, "stateless")
    observations, blind = seen_in_play(inputs), blind_columns(("auction",))
    assert training.model._last_obs is not None
    assert not np.asarray(training.model._last_obs)[:, blind].any()
    raw = compile_network(network_of(training.model.policy))
    exported = compile_network(actor_of(training.model.policy, training.ppo.blind))
    zeroed = observations.copy()
    zeroed[:, blind] = 0.0
    states = [network.new_state(48) for network in (exported, raw, raw)]
    for _ in range(3):
        ours = exported.run(observations, states[0])
        assert np.array_equal(ours, raw.run(zeroed, states[1]))
        assert not np.array_equal(ours, raw.run(observations, states[2]))
    assert np.array_equal(states[0], states[1])


def test_without_masks_every_action_is_tried_and_none_is_refused(inputs: TrialInputs) -> None:
    training = trained(inputs, "unmasked")
    buffer = training.model.rollout_buffer
    assert buffer.masks.all()
    assert not training.venv.env.action_masks().all()  # type: ignore[attr-defined]
    assert np.unique(buffer.actions).size > ACTIONS // 2
    network = actor_of(training.model.policy, ())
    env = MarketVectorEnv(64, inputs.market, inputs.paths, split="test")
    observations, _ = env.reset(seed=5)
    masks = env.action_masks()
    actions = bidder_of(network, Choice(masking=False))(observations, masks)
    assert not masks[np.arange(64), actions].all()
    actions = bidder_of(network, Choice())(observations, masks)
    assert masks[np.arange(64), actions].all()
    bidder = bidder_of(network, Choice(masking=False))
    first = play(bidder, env, 6).profit_eth
    assert np.array_equal(first, play(bidder, env, 6).profit_eth)


def test_bundles_only_learns_and_plays_whole_bundles_on_the_best(inputs: TrialInputs) -> None:
    """The same restriction where it learns, where it is validated and where it is compared."""
    training = trained(inputs, "bundles-only")
    buffer, whole = training.model.rollout_buffer, range(1, 1 + BIDS)
    assert set(np.unique(buffer.actions)) <= {PASS, *whole}
    assert np.unique(buffer.actions).size > BIDS // 2
    network = actor_of(training.model.policy, ())
    env = MarketVectorEnv(64, inputs.market, inputs.paths, split="test")
    observations, _ = env.reset(seed=5)
    masks = env.action_masks()
    actions = bidder_of(network, Choice(best_bundles=True))(observations, masks)
    assert set(np.unique(actions)) <= {PASS, *whole}
    assert masks[np.arange(64), actions].all()
    with pytest.raises(ValueError, match="ACTION_TABLE"):
        Choice(best_bundles=True).of(np.ones((2, 5), np.bool_))


def test_the_best_that_can_be_served_is_frozen_and_each_arm_is_compared(
    inputs: TrialInputs, tmp_path: Path
) -> None:
    """The networks come back from the checkpoints of their arms, a control is never frozen."""
    results, trainings = [], {}
    for arm in ("unmasked", "recurrent", "history"):
        training = trainings[arm] = trained(inputs, arm)
        folder = tmp_path / arm
        folder.mkdir()
        training.save(folder)
        results.append(TrialResult(training.trial, folder, training.curve))
    again = results[-1].trial._replace(name="history-seed-1")  # a second one, no better
    results.append(dataclasses.replace(results[-1], trial=again))
    chosen = served(results, inputs)
    assert chosen is results[1]
    policy = bidder_of(trained_network(chosen, inputs), Choice())
    learned = compared(results, inputs, chosen, policy)
    assert learned.tried == {POLICY: 4, "PPO unmasked": 1, "PPO recurrent": 1, "PPO history": 2}
    assert learned.settings[POLICY] == learned.settings["PPO recurrent"] == "recurrent-seed-0"
    assert learned.bidders["PPO recurrent"] is policy
    for arm, training in trainings.items():
        profit = play(learned.bidders[f"PPO {arm}"], training.validation, VALIDATION_SEED)
        assert float(iqm(profit.profit_eth)) == training.curve[-1]["validation_iqm_eth"]
    assert list(learned.trainings["PPO history"]) == ["history-seed-0", "history-seed-1"]
    for arm, bidder in learned.bidders.items():
        assert bidder is next(iter(learned.trainings[arm].values()))
    alone = compared(results[2:], inputs, results[2], policy)
    assert not alone.bidders, "the policy itself"
    assert alone.tried == {POLICY: 2}
    assert alone.trainings["PPO history"]["history-seed-0"] is policy


def test_arms_change_the_learner_and_nothing_else(inputs: TrialInputs) -> None:
    changed = {arm: PPO.of_arm(arm) for arm in LEARNER_ARMS}
    assert changed["history"] == PPO
    assert dataclasses.replace(changed["recurrent"], lstm=0) == PPO
    for learner in ("history", "stateless", "recurrent"):
        without = changed["no-forecast" if learner == "history" else f"{learner}-no-forecast"]
        assert set(without.blind) - set(changed[learner].blind) == {"forecast_"}
        assert dataclasses.replace(without, blind=changed[learner].blind) == changed[learner]
    assert dataclasses.replace(changed["unmasked"], masking=True) == PPO
    assert dataclasses.replace(changed["bundles-only"], best_bundles=False) == PPO
    config = TrialsConfig(seeds=2, arms=("history", "stateless"))
    trials = planned_trials(config, PPO, seed=1)
    assert [t.name for t in trials] == [
        *("seed-1-rate-0.001", "seed-2-rate-0.001"),
        *("stateless-seed-1-rate-0.001", "stateless-seed-2-rate-0.001"),
    ]
    assert inputs.ppo_of(trials[2]).blind == ("auction",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials.arms", "[histroy]"], "trials.arms is ('histroy',): give names of history"),
        (["--trials.arms", "[]"], "trials.arms is (): give"),
        (["--trials.arms", "[history, history]"], "trials.arms"),
        (["--trials.arms", "[unmasked]"], "one with masking"),
        (["--trials.arms", "[bundles-only]"], "one with masking and all actions"),
        (
            ["--trials.arms", "[history, recurrent]", "--ppo.lstm", "8"],
            "trials.arms is ('history', 'recurrent'): give",
        ),
        (["--trials.arms", "[recurrent]", "--ppo.minibatch", "16"], "minibatch is 16: give"),
        (["--ppo.blind", "[colour]"], "ppo.blind is ('colour',): give"),
        (
            ["--trials.arms", "[history, stateless]", "--trials.exchange_reports", "2"],
            "trials.exchange_reports is 2: give",
        ),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_arguments(arguments)


def test_every_ingredient_differs_in_one_thing_and_has_a_name_of_its_own() -> None:
    names = [name for name, *_ in INGREDIENTS]
    assert len(set(names)) == len(names)
    for _, having, lacking in INGREDIENTS:
        fields = zip(LEARNER_ARMS[having], LEARNER_ARMS[lacking], strict=True)
        assert sum(ours != theirs for ours, theirs in fields) == 1
    paper, _ = read_arguments(["--config", str(DEFAULT_CONFIG.with_name("paper.yaml"))])
    assert set(paper.trials.arms) == set(LEARNER_ARMS)


def test_arms_are_read_from_the_command_line() -> None:
    config, _ = read_arguments(["--trials.arms", "[history,stateless]"])
    assert config.trials.arms == ("history", "stateless")
    assert TrainConfig().trials.arms == ("history",)
