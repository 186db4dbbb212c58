"""Does the filtered regime tell a bidder what the last auctions do not?

One classifier per kind of input learns the law of the highest rival bid and bids what it says is
best. Everything else is the same, so the shares earned compare the inputs, without the noise of
reinforcement learning.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from envs.hidden_competition.model import FRACTIONS, SCENARIOS, Chains, record
from envs.hidden_competition.references import RIVAL_SEEN, bayes_bids, capture, clairvoyant
from models.patterns.regimes import fit_hidden_markov

WINDOW = 16  # past auctions, as agents.hidden_competition.study shows them
CHAINS, LENGTH, BURN_IN = 128, 1000, 100
EPOCHS, BATCH, WIDTH = 12, 1024, 64
CLASSES = len(FRACTIONS) + 1  # nobody bid, or between two bids of the grid

Features = NDArray[np.float32]


def _seen(chains: Chains) -> NDArray[np.float64]:
    """(ln(1 - clearing share), ln value) float64[length, chains, 2]; 0 where nobody bid."""
    gap = np.log1p(-np.maximum(chains.top_rival, 0.0))
    return np.stack([gap, chains.log_value], axis=-1)


def window_features(chains: Chains) -> Features:
    """The last WINDOW auctions, newest first: float32[length, chains, 2 WINDOW]."""
    seen = _seen(chains)
    past = np.zeros((*seen.shape[:2], WINDOW, 2))
    for age in range(1, WINDOW + 1):
        past[age:, :, age - 1] = seen[:-age]
    return past.reshape(*seen.shape[:2], -1).astype(np.float32)


def filter_features(fitted: Chains, chains: Chains, regimes: int) -> Features:
    """ln of the probabilities of the next auction's regime: float32[length, chains, regimes].

    By a hidden Markov model of the traces of `fitted`, from the auctions before each one alone.
    """
    x, restart = _laid_out(fitted)
    model = fit_hidden_markov(x, regimes, restart, starts=1, tolerance=1e-5)
    x, restart = _laid_out(chains)
    length, count = chains.log_value.shape
    after = model.filter(x, restart).reshape(count, length, regimes).transpose(1, 0, 2)
    known = np.empty_like(after)
    known[0] = model.start
    known[1:] = after[:-1] @ model.transition
    return np.log(known + 1e-6).astype(np.float32)


def _laid_out(chains: Chains) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Chains end to end with unknown clearing shares as nan, and where each begins."""
    seen = _seen(chains)
    seen[chains.top_rival < 0.0, 0] = np.nan
    restart = np.zeros(chains.log_value.T.shape, np.bool_)
    restart[:, 0] = True
    return seen.transpose(1, 0, 2).reshape(-1, 2), restart.ravel()


def _classes(chains: Chains) -> NDArray[np.int64]:
    """0 where nobody bid, else how many bids of the grid lie below the highest rival's."""
    return np.where(chains.top_rival < 0.0, 0, np.searchsorted(FRACTIONS, chains.top_rival))


def learned_bids(x: Features, chains: Chains, unseen: Features, seed: int) -> NDArray[np.float64]:
    """Fit the law of the highest rival bid given inputs x [length, chains, d]; bid on `unseen`."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    rows = x[BURN_IN:].reshape(-1, x.shape[-1])
    mean, sd = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    inputs = torch.from_numpy((rows - mean) / sd)
    labels = torch.from_numpy(_classes(chains)[BURN_IN:].ravel())
    network = nn.Sequential(
        *(nn.Linear(x.shape[-1], WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()),
        nn.Linear(WIDTH, CLASSES),
    )
    optimiser = torch.optim.Adam(network.parameters())
    steps = EPOCHS * (len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.from_numpy(rng.permutation(len(inputs)))
        for k in range(len(inputs) // BATCH):
            chosen = order[k * BATCH : (k + 1) * BATCH]
            loss = nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        logits = network(torch.from_numpy((unseen - mean) / sd))
        won = logits.softmax(-1).cumsum(-1)[..., :-1].numpy()  # the rival is at or below each bid
    return FRACTIONS[(won * (1.0 - FRACTIONS)).argmax(axis=-1)]


def shares_of_histories(scenario: str, seeds: int = 3) -> dict[str, list[float]]:
    """Share of the clairvoyant profit by value on validation chains, per input and seed.

    All inputs hold the present value; "Bayes" is the exact filter that knows the model.
    """
    model = SCENARIOS[scenario]
    fitted = record(model, "train", 1, CHAINS, BURN_IN + LENGTH)
    unseen = record(model, "validation", 0, CHAINS, BURN_IN + LENGTH)
    present = [chains.log_value[..., None].astype(np.float32) for chains in (fitted, unseen)]
    window = [window_features(chains) for chains in (fitted, unseen)]
    filtered = [filter_features(fitted, chains, model.regimes) for chains in (fitted, unseen)]
    kinds = {
        "present value": [[p] for p in present],
        "window": [list(pair) for pair in zip(present, window, strict=True)],
        "filter": [list(pair) for pair in zip(present, filtered, strict=True)],
        "window and filter": [list(t) for t in zip(present, window, filtered, strict=True)],
    }
    weight = np.exp(unseen.log_value[BURN_IN:])
    best = float((clairvoyant(unseen)[BURN_IN:] * weight).sum())

    def share(bids: NDArray[np.float64]) -> float:
        return float((capture(model, unseen, bids)[BURN_IN:] * weight).sum()) / best

    shares = {}
    for name, (seen, new) in kinds.items():
        x, y = np.concatenate(seen, axis=-1), np.concatenate(new, axis=-1)
        shares[name] = [share(learned_bids(x, fitted, y, seed)) for seed in range(seeds)]
    return shares | {"Bayes": [share(bayes_bids(model, unseen, RIVAL_SEEN))]}
