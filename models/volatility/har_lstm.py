"""The HAR-LSTM: a frozen log-HAR base, a small recurrent state and a perceptron, under QLIKE.

f = base + skip x + MLP([x, LSTM(raw bar inputs)]), h = e^f; the loss RV e^-f + f is QLIKE up to
constants. The output layers start at zero, so training starts from the base and can only leave it.
The forecast is a combination (Bates and Granger 1969) of that and of HARX by OLS, in logs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from history.prices import BarsError
from kernels.networks.features import N_FEATURES
from kernels.networks.forecast import CLIP
from kernels.networks.forward import lstm_parameters, mlp_parameters
from models.volatility.config import VolatilityConfig
from models.volatility.har import LogLinear, fit_log_linear
from models.volatility.losses import floored
from models.volatility.origins import Origins, column
from models.volatility.predictor import Forecaster

RECURRENT_INPUTS = (
    *("rv5", "pk5", "ew2", "vo5", "return5", "abs_return5"),
    *("other_rv5", "other_pk5"),
)
BASE_DESIGN = "HAR+season"
BASE_RIDGE = 1e-2

Progress = Callable[[int, int], None]  # steps done, steps in all
Log = Callable[[str, float, int], None]  # tag, value, step
# Weights of every network of each ensemble, as `Member.flat` gives them, in the order of the seeds.
Members = Callable[[Sequence["Ensemble"], Progress | None, Log | None], list[list[np.ndarray]]]


class HarLstm(nn.Module):
    """Forecast relative to the base from standardised inputs [batch, time, N_FEATURES]."""

    def __init__(self, config: VolatilityConfig) -> None:
        super().__init__()
        horizons, hidden, layer = len(config.horizons_minutes), config.hidden, config.layer
        self.config = config
        self.recurrent = [column(name) for name in RECURRENT_INPUTS]
        self.lstm = nn.LSTM(len(self.recurrent), hidden, batch_first=True)
        self.mlp = nn.ModuleList(
            [
                nn.Linear(N_FEATURES + hidden, layer),
                nn.Linear(layer, layer),
                nn.Linear(layer, horizons),
            ]
        )
        self.skip = nn.Linear(N_FEATURES, horizons, bias=False)
        for output in (self.mlp[2], self.skip):
            nn.init.zeros_(output.get_parameter("weight"))
        nn.init.zeros_(self.mlp[2].get_parameter("bias"))
        with torch.no_grad():  # remember by default: the forget gate starts open
            self.lstm.get_parameter("bias_ih_l0")[hidden : 2 * hidden] = 1.0

    def forward(self, x: Tensor, rng: np.random.Generator | None = None) -> Tensor:
        """Log forecasts relative to the base [batch, time, horizons]; `rng` turns on the noise."""
        config = self.config
        if rng is not None and config.input_noise:
            noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
            x = x.add(noise, alpha=config.input_noise)
        state, _ = self.lstm(x[..., self.recurrent])
        state = _dropout(state, config.state_dropout, rng)
        layer = nn.functional.silu(self.mlp[0](torch.cat([x, state], -1)))
        layer = nn.functional.silu(self.mlp[1](_dropout(layer, config.dropout, rng)))
        return self.mlp[2](layer) + self.skip(x)

    def flat(self, share: float = 1.0) -> np.ndarray:
        """Weights in the layout of `kernels.networks.forecast.Weights`, the output times
        `share`."""
        a = {k: v.detach().numpy() for k, v in self.named_parameters()}
        bias = a["lstm.bias_ih_l0"] + a["lstm.bias_hh_l0"]
        lstm = lstm_parameters(a["lstm.weight_ih_l0"], a["lstm.weight_hh_l0"], bias)
        scales = (1.0, 1.0, share)
        mlp = mlp_parameters(
            [a[f"mlp.{k}.weight"] * scale for k, scale in enumerate(scales)],
            [a[f"mlp.{k}.bias"] * scale for k, scale in enumerate(scales)],
        )
        skip = a["skip.weight"].T.ravel() * share
        return np.concatenate([lstm, mlp, skip]).astype(np.float32)


def _dropout(x: Tensor, rate: float, rng: np.random.Generator | None) -> Tensor:
    """Dropout from NumPy's generator: torch's own takes longer than the layers around it."""
    if rng is None or rate == 0.0:
        return x
    kept = torch.from_numpy(rng.random(x.shape, np.float32) >= rate)
    return x * kept * (1.0 / (1.0 - rate))


@dataclass(frozen=True)
class Window:
    """One contiguous run of training origins."""

    x: np.ndarray  # float32[n, N_FEATURES], standardised, clipped
    ratio: np.ndarray  # float32[n, H], RV / e^base, 1 where unknown
    known: np.ndarray  # bool[n, H]


class Ensemble(NamedTuple):
    """Networks to be trained on the same windows, each from its own seed."""

    name: str  # before the names of its networks; empty for the ensemble that is served
    windows: list[Window]
    config: VolatilityConfig

    @property
    def networks(self) -> list[str]:
        """Names of the networks in TensorBoard and among the trials."""
        before = f"{self.name}_" if self.name else ""
        return [f"{before}network_{k}" for k in range(self.config.ensemble)]


class Fit(NamedTuple):
    """A training: on what, of all there is, and how."""

    config: VolatilityConfig
    until: int  # minutes since the epoch; no target ends later
    name: str = ""  # of its ensemble


def train_har_lstm(
    origins: list[Origins],
    config: VolatilityConfig,
    until: int,
    bar_minutes: int,
    progress: Progress | None = None,
    log: Log | None = None,
    members: Members | None = None,
) -> Forecaster:
    """Fit base, scaler and ensemble on the origins whose targets end by the minute `until`.

    `members` trains the networks, by default one after the other in this process. Deterministic
    for a seed on one machine: one thread, fixed order. Raises BarsError when there is too little
    to learn from.
    """
    fits = [Fit(config, until)]
    return train_har_lstms(origins, fits, bar_minutes, progress, log, members)[0]


def train_har_lstms(
    origins: list[Origins],
    fits: Sequence[Fit],
    bar_minutes: int,
    progress: Progress | None = None,
    log: Log | None = None,
    members: Members | None = None,
) -> list[Forecaster]:
    """A forecaster per fit, each as `train_har_lstm` makes it; their networks train together."""
    begun = [_begin(origins, fit, bar_minutes) for fit in fits]
    weights = (members or train_members)([ensemble for _, ensemble in begun], progress, log)
    made = zip(begun, weights, strict=True)
    return [replace(forecaster, weights=np.stack(rows)) for (forecaster, _), rows in made]


def _begin(origins: list[Origins], fit: Fit, bar_minutes: int) -> tuple[Forecaster, Ensemble]:
    """The forecaster with a single network of zeros, and the networks that it waits for."""
    config = fit.config
    parts = training_part(origins, config, fit.until)
    inputs = np.concatenate([p.inputs for p in parts])
    mean, sd = inputs.mean(axis=0), inputs.std(axis=0) + 1e-3
    scale = np.stack([mean, 1.0 / sd]).astype(np.float32)
    har = fit_log_linear(parts, BASE_DESIGN, config.horizons_minutes, gamma=True, ridge=BASE_RIDGE)
    base = _standardised(har, mean, sd)
    if config.linear_share:
        harx = fit_log_linear(parts, "HARX", config.horizons_minutes, gamma=False)
        combined = base + config.linear_share * (_standardised(harx, mean, sd) - base)
    else:
        combined = base
    windows = [w for p in parts for w in _windows(p, config, scale, har.predict(p.inputs))]
    sizes = [N_FEATURES + config.hidden, config.layer, config.layer, len(config.horizons_minutes)]
    forecaster = Forecaster(
        horizons_minutes=config.horizons_minutes,
        symbols=tuple(p.symbol for p in parts),
        bar_minutes=bar_minutes,
        trained_from=int(min(p.minute[0] for p in parts)),
        trained_until=fit.until,
        scale=scale,
        base=combined.astype(np.float32),
        weights=np.zeros_like(HarLstm(config).flat())[None],
        recurrent=np.array([column(name) for name in RECURRENT_INPUTS], np.int64),
        sizes=np.array(sizes, np.int64),
    )
    return forecaster, Ensemble(fit.name, windows, config)


def _standardised(model: LogLinear, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """The model on standardised inputs, float64[N_FEATURES + 1, H], intercept last."""
    slopes = np.zeros((N_FEATURES, model.intercept.size))
    slopes[model.columns] = model.slopes
    return np.vstack([slopes * sd[:, None], model.intercept + mean @ slopes])


def training_part(origins: list[Origins], config: VolatilityConfig, until: int) -> list[Origins]:
    """Origins before `until`; a target that ends later is unknown (the embargo of its horizon)."""
    first = until - config.train_days * 1440 if config.train_days else -(10**12)
    parts = []
    for o in origins:
        part = o.select((o.minute >= first) & (o.minute < until))
        targets = part.targets.copy()
        for j, horizon in enumerate(config.horizons_minutes):
            targets[part.minute + horizon > until, j] = np.nan
        part = Origins(part.symbol, part.minute, part.inputs, targets)
        if len(part) >= config.chunk:
            parts.append(part)
    known = sum(len(p) for p in parts)
    if known < 10 * 288:
        raise BarsError(
            f"training part before {np.datetime64(until, 'm')}Z: {known} origins after one day of "
            "warm-up per window, at least 2880 (10 days of one symbol) are needed; test later or "
            "give more bars"
        )
    return parts


def standardise(inputs: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Inputs as the networks see them, in the float32 arithmetic of `forecast_step`."""
    return np.clip((inputs.astype(np.float32) - scale[0]) * scale[1], -CLIP, CLIP)


@contextmanager
def one_thread() -> Iterator[None]:
    """Small matrices lose on several threads, and one thread makes the sums reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _windows(
    part: Origins, config: VolatilityConfig, scale: np.ndarray, base: np.ndarray
) -> list[Window]:
    """Contiguous runs of a symbol with targets relative to the base."""
    x = standardise(part.inputs, scale)
    variance = np.stack(
        [floored(part.targets[:, j], h) for j, h in enumerate(config.horizons_minutes)], axis=1
    )
    known = np.isfinite(variance)
    ratio = np.where(known, variance * np.exp(-base), 1.0).astype(np.float32)
    edges = [*part.starts().tolist(), len(part)]
    return [
        Window(x[a:b], ratio[a:b], known[a:b])
        for a, b in pairwise(edges)
        if b - a >= 2 * config.burn_in
    ]


def _batches(
    windows: list[Window], config: VolatilityConfig, rng: np.random.Generator
) -> list[list[tuple[Window, int]]]:
    """Shuffled batches of (window, first origin); sequences start at a new offset every epoch."""
    stride = config.chunk - config.burn_in
    chunks = []
    for window in windows:
        n = len(window.x)
        offset = int(rng.integers(0, stride))
        for at in range(offset - stride if offset else 0, n - config.chunk // 2, stride):
            chunks.append((window, max(0, min(at, n - config.chunk))))
    order = rng.permutation(len(chunks))
    return [
        [chunks[i] for i in order[k : k + config.batch]] for k in range(0, len(order), config.batch)
    ]


def _tensors(
    batch: list[tuple[Window, int]], config: VolatilityConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and mask of a batch [batch, chunk, .]; short windows are padded, unscored."""
    shape = (len(batch), config.chunk)
    horizons = len(config.horizons_minutes)
    x = np.zeros((*shape, N_FEATURES), np.float32)
    ratio = np.ones((*shape, horizons), np.float32)
    known = np.zeros((*shape, horizons), np.bool_)
    for i, (window, at) in enumerate(batch):
        length = min(config.chunk, len(window.x) - at)
        x[i, :length] = window.x[at : at + length]
        ratio[i, :length] = window.ratio[at : at + length]
        known[i, :length] = window.known[at : at + length]
        if at > 0:  # at the start of a window the state is truly zero
            known[i, : config.burn_in] = False
    return torch.from_numpy(x), torch.from_numpy(ratio), torch.from_numpy(known)


class Member:
    """One network of the ensemble in training, from its own seed."""

    def __init__(self, windows: list[Window], config: VolatilityConfig, member: int) -> None:
        seed = config.seed + member
        torch.manual_seed(seed)
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self.windows, self.config = windows, config
        self.network = HarLstm(config)
        named = list(self.network.named_parameters())
        decay = config.weight_decay
        groups = [
            {"params": [p for n, p in named if "bias" not in n], "weight_decay": decay},
            {"params": [p for n, p in named if "bias" in n], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))
        self.step = self.steps = self.epochs = 0

    def epoch(self) -> float:
        """One pass over the training origins; its mean loss."""
        config = self.config
        batches = _batches(self.windows, config, self.rng)
        self.steps = self.steps or len(batches) * config.epochs
        total, scored = 0.0, 0
        for batch in batches:
            cosine = 0.5 * (1.0 + np.cos(np.pi * min(1.0, self.step / self.steps)))
            rate = config.learning_rate * min(1.0, (self.step + 1) / 30) * (0.98 * cosine + 0.02)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            x, ratio, known = _tensors(batch, config)
            f = self.network(x, self.rng)
            loss_sum = ((ratio * torch.exp(-f) + f) * known).sum()
            count = known.sum()
            self.optimiser.zero_grad(set_to_none=True)
            (loss_sum / count).backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            total += float(loss_sum.detach())
            scored += int(count)
        self.epochs += 1
        return total / max(scored, 1)

    def flat(self) -> np.ndarray:
        """The weights with the share of the networks in the forecast, float32[n]."""
        return self.network.flat(1.0 - self.config.linear_share)


def train_members(
    ensembles: Sequence[Ensemble], progress: Progress | None, log: Log | None
) -> list[list[np.ndarray]]:
    """The networks of all ensembles one after the other in this process."""
    total = sum(e.config.epochs * e.config.ensemble for e in ensembles)
    done, weights = 0, []
    with one_thread():
        for ensemble in ensembles:
            rows = []
            for k, name in enumerate(ensemble.networks):
                member = Member(ensemble.windows, ensemble.config, k)
                for epoch in range(ensemble.config.epochs):
                    loss, done = member.epoch(), done + 1
                    if log:
                        log(train_loss_tag(name), loss, epoch)
                    if progress:
                        progress(done, total)
                rows.append(member.flat())
            weights.append(rows)
    return weights


def train_loss_tag(network: str) -> str:
    """Under which name TensorBoard shows the loss of a network."""
    return f"forecast/{network}/train_loss"
