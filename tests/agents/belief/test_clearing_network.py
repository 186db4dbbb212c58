"""Beliefs about clearing bids: from stated laws to actions, and what a server plays of them."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.belief.clearing_network import (
    CLASSES,
    MOST_GAS_SHARE,
    Law,
    RecurrentClearingBelief,
    WindowClearingBelief,
    expected_eth,
    grid_entry,
)
from agents.bidders.channels import builds_alone
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import (
    ACTION_TABLE,
    ACTIONS,
    BID,
    BID_FRACTION,
    BID_PPM,
    BIDS,
    CANCEL,
    PASS,
    PPM,
)
from kernels.market.observation import FIELDS, SIZE, VALUE_CENTRE, VALUE_SCALE
from kernels.market.tile import BUNDLE, OPPORTUNITIES, PUBLIC
from models.frozen import OnnxNetwork, compile_network
from models.policy.convert import servable

SPACES = spaces.Box(-5.0, 5.0, (SIZE,), np.float32), spaces.Discrete(ACTIONS)
REVERT_SHARE = 0.35
NAMES = [field.name for field in FIELDS]


@pytest.fixture(scope="module")
def played(paths: PricePaths, market: MarketConfig) -> tuple[np.ndarray, np.ndarray]:
    """Observations and masks of 256 searchers that bid at random, half of them where the proposer
    builds alone; all have something to bid on."""
    # the rich market: most slots have opportunities to compare
    env = MarketVectorEnv(256, market.changed({"era": "rich"}), paths, seed=1)
    observations, _ = env.reset(seed=1)
    rng = np.random.default_rng(0)
    seen, open_ = [], []
    for _ in range(60):
        masks = env.action_masks()
        seen.append(observations)
        open_.append(masks)
        observations, *_ = env.step((rng.uniform(size=masks.shape) * masks).argmax(axis=1))
    observations, masks = np.concatenate(seen), np.concatenate(open_)
    alone = builds_alone(observations)
    rows = [np.flatnonzero(masks[:, 1] & where)[-128:] for where in (alone, ~alone)]
    rows = np.stack(rows, axis=1).ravel()
    return observations[rows], masks[rows]


def _by_hand(observation: np.ndarray, wins: np.ndarray, action: int) -> float:
    """Expected profit of a whole-size bid, ETH, from the named fields alone."""
    row = ACTION_TABLE[action]
    seen = dict(zip(NAMES, observation.astype(np.float64), strict=True))
    offer = f"opportunity{row.opportunity}_"
    net = np.exp(seen[offer + "net"] * VALUE_SCALE + VALUE_CENTRE) * seen[offer + "exists"]
    taken = seen["bundles_taken"] > 0.0
    fraction = row.bid_ppm / PPM
    chance = wins[row.opportunity, np.searchsorted(BID_PPM, row.bid_ppm)]
    if row.channel == BUNDLE:
        return net * (1.0 - fraction) * chance if taken else -np.inf
    if taken:
        return -np.inf
    gross = net / (1.0 - min(seen[offer + "gas_share"], MOST_GAS_SHARE))
    lost = REVERT_SHARE * (gross - net + fraction * net)
    return chance * (1.0 - fraction) * net - (1.0 - chance) * lost


def test_expected_profit_is_that_of_the_action_table(
    played: tuple[np.ndarray, np.ndarray],
) -> None:
    observations, _ = played
    rng = np.random.default_rng(0)
    wins = np.sort(rng.uniform(size=(256, OPPORTUNITIES, BIDS)), axis=-1).astype(np.float32)
    seen, chances = torch.from_numpy(observations), torch.from_numpy(wins)
    found, _ = expected_eth(seen, chances, REVERT_SHARE)
    assert (found[:, PASS] == 0.0).all()
    assert torch.isneginf(found[:, CANCEL]).all()
    some = {BUNDLE: 0, PUBLIC: 0}
    for action, row in enumerate(ACTION_TABLE):
        if row.kind != BID:
            continue
        if row.size_ppm < PPM:
            assert torch.isneginf(found[:, action]).all()
            continue
        wanted = [_by_hand(o, w, action) for o, w in zip(observations, wins, strict=True)]
        np.testing.assert_allclose(found[:, action].numpy(), wanted, rtol=2e-4, atol=1e-7)
        some[row.channel] += int((np.isfinite(wanted) & (np.array(wanted) != 0.0)).sum())
    assert min(some.values()) > 60, "both channels were compared"


def test_the_largest_logit_is_the_best_expected_profit(
    played: tuple[np.ndarray, np.ndarray],
) -> None:
    torch.manual_seed(0)
    observations, masks = (torch.from_numpy(x) for x in played)
    belief = WindowClearingBelief(*SPACES, units=16)
    with torch.no_grad():
        logits, values = belief(observations)
        past = belief.remembered(observations)
        law = belief.law(past[:, None], observations[:, 14:70].view(-1, 4, 14))
        profit, _ = expected_eth(observations, law.wins(), REVERT_SHARE)
    chosen = torch.where(masks, logits, -torch.inf).argmax(dim=1)
    best = torch.where(masks, profit, -torch.inf)
    taken = profit.gather(1, chosen[:, None])[:, 0]
    torch.testing.assert_close(taken, best.max(dim=1).values, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(values, profit.max(dim=1).values)
    assert (chosen > PASS).sum() > 50


def test_chances_are_sums_of_classes() -> None:
    torch.manual_seed(0)
    law = Law(torch.randn(7, CLASSES), torch.randn(7))
    p, landing = law.logits.softmax(-1), law.landing.sigmoid()
    for bid in (0, 5, BIDS - 1):
        below = p[:, : bid + 1].sum(-1)
        torch.testing.assert_close(law.below()[:, bid], below)
        torch.testing.assert_close(law.wins()[:, bid], below * landing)


def test_a_bid_equal_to_one_of_the_grid_is_not_below_it() -> None:
    fractions = np.concatenate([BID_FRACTION, BID_FRACTION[1:] - 1e-4, [0.9989]])
    gaps = (-np.log2(1.0 - fractions) / 4.0).astype(np.float32)
    wanted = np.searchsorted(BID_FRACTION, fractions, side="right")
    assert np.array_equal(grid_entry(torch.from_numpy(gaps)).numpy(), wanted)


@pytest.mark.parametrize("kind", [WindowClearingBelief, RecurrentClearingBelief])
def test_a_server_plays_it_from_an_onnx_file(
    kind: type[WindowClearingBelief] | type[RecurrentClearingBelief],
    played: tuple[np.ndarray, np.ndarray],
) -> None:
    torch.manual_seed(0)
    belief = kind(*SPACES, units=16)
    network = servable(belief)
    assert isinstance(network, OnnxNetwork)
    observations = torch.from_numpy(played[0])
    lanes = len(observations)
    state = torch.zeros(1, lanes, 16)
    kept = compile_network(network).new_state(lanes)
    for shift in (0.0, 0.1, -0.2):  # three slots
        seen = (observations + shift).clamp(-5.0, 5.0)
        with torch.no_grad():
            if isinstance(belief, RecurrentClearingBelief):
                logits, _, state = belief(seen, state)
            else:
                logits, _ = belief(seen)
        found = network.run(seen.numpy(), kept)
        np.testing.assert_allclose(found, logits.numpy(), rtol=1e-4, atol=2e-4)


def test_another_environment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"observations \(3,\) and 194 actions: a belief"):
        WindowClearingBelief(spaces.Box(-1.0, 1.0, (3,), np.float32), SPACES[1])
    with pytest.raises(ValueError, match="and 5 actions: a belief"):
        RecurrentClearingBelief(SPACES[0], spaces.Discrete(5))
