"""A frozen policy ready to decide: the compiled network, and the state it keeps per market."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.checked_arrays import ArrayError, check_array, check_finite
from kernels.market.action import ACTIONS
from kernels.market.observation import FIELDS
from kernels.networks.forward import (
    lstm_parameters,
    mlp_parameters,
    mlp_size,
    policy_choice,
    policy_forward,
    policy_forward_batch,
)
from models.frozen.folder import (
    KERNEL,
    ONNXRUNTIME,
    RETRAIN,
    TOLERANCE,
    open_folder,
    refuse,
    session_of,
)
from models.frozen.network import Network, check_widths, read_network
from models.frozen.onnx_network import OnnxNetwork
from models.frozen.row_graph import NetworkFileError

# Compared by identity, which is what a decision has time for; others are compared by value.
_FLOAT32, _BOOL = np.dtype(np.float32), np.dtype(np.bool_)


class Compiled(NamedTuple):
    """A network as the kernel wants it: flat parameters, layer widths, units of the LSTM."""

    parameters: NDArray[np.float32]
    sizes: NDArray[np.int64]
    units: int

    def new_state(self, n: int) -> NDArray[np.float32]:
        """State float32[n, 2, units] of n markets before their first slot."""
        return np.zeros((n, 2, self.units), np.float32)

    @property
    def recurrent(self) -> bool:
        """Whether it has a state."""
        return self.units > 0

    @property
    def inputs(self) -> int:
        """D, width of the observation."""
        if not self.units:
            return int(self.sizes[0])
        lstm = self.parameters.size - mlp_size(self.sizes)
        return lstm // (4 * self.units) - self.units - 1

    @property
    def outputs(self) -> int:
        """A, number of logits."""
        return int(self.sizes[-1])

    def run(
        self, observations: NDArray[np.float32], state: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Logits float32[n, A] of observations float32[n, D]; `state` is replaced by the next.

        Raises ArrayError for other shapes or types, and for numbers that are not finite.
        """
        n = len(observations)
        check_array("observations", observations, (n, self.inputs), np.float32)
        check_array("state", state, (n, 2, self.units), np.float32)
        logits = np.empty((n, self.outputs), np.float32)
        if policy_forward_batch(observations, self.parameters, self.sizes, state, logits) < n:
            check_finite("observations", observations, (n, self.inputs), np.float32)
        return logits

    def forward(
        self,
        observation: NDArray[np.float32],
        state: NDArray[np.float32],
        after: NDArray[np.float32],
        scratch: NDArray[np.float32],
        logits: NDArray[np.float32],
    ) -> None:
        """One market: `logits` float32[A] and the next state `after` of observation float32[D].

        The arrays are those of `FrozenPolicy`, which checks what comes from outside.
        """
        policy_forward(observation, self.parameters, self.sizes, state, after, scratch, logits)

    def choose(
        self,
        observation: NDArray[np.float32],
        state: NDArray[np.float32],
        after: NDArray[np.float32],
        scratch: NDArray[np.float32],
        logits: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> int:
        """`forward`, then the best action that `mask` allows; below 0 when there is none."""
        return policy_choice(
            observation, self.parameters, self.sizes, state, after, scratch, logits, mask
        )


Runnable = Compiled | OnnxNetwork


def compile_network(network: Network | OnnxNetwork) -> Runnable:
    """Flatten the weights for the kernel; what onnxruntime runs stays as it is.

    Raises ValueError for layers that do not follow from one another.
    """
    if isinstance(network, OnnxNetwork):
        return network
    check_widths(network)
    weights, biases = zip(*network.layers)
    parts = [mlp_parameters(list(weights), list(biases))]
    if network.lstm is not None:
        parts.insert(0, lstm_parameters(*network.lstm))
    widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    return Compiled(np.concatenate(parts), np.array(widths, np.int64), network.units)


class Player:
    """Plays a network in n markets at once, one call per slot; keeps the state of each market."""

    def __init__(self, network: Runnable) -> None:
        self.network = network
        self.state = network.new_state(0)

    def restart(self) -> None:
        """All markets begin anew."""
        self.state = self.network.new_state(0)

    def __call__(
        self, observations: NDArray[np.float32], masks: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Actions int64[n] for observations float32[n, D] under masks bool[n, A].

        Raises ArrayError for others, and for a market whose mask allows nothing.
        """
        n = len(observations)
        check_array("masks", masks, (n, self.network.outputs), np.bool_)
        if len(self.state) != len(observations):
            if len(self.state):
                raise ValueError(
                    f"{len(observations)} markets after {len(self.state)}: call restart between"
                )
            self.state = self.network.new_state(len(observations))
        logits = self.network.run(observations, self.state)
        actions = np.where(masks, logits, -np.inf).argmax(axis=1)
        # Where nothing is allowed all are equal, and the first one is taken.
        closed = (actions == 0) & ~masks[:, 0]
        if closed.any():
            market = int(np.argmax(closed))
            raise ArrayError(f"masks[{market}] allows no action: allow at least the pass")
        return actions


class FrozenPolicy:
    """A policy ready to decide in one market. `load` builds it.

    `decide` allocates nothing where the network runs in the kernel (`models.frozen.network`); any
    other network runs in onnxruntime, which takes longer.

    A recurrent policy moves once per slot, as it was trained: any number of `decide` on what is
    seen so far, then `end_slot`. `player` plays many markets at once.
    """

    def __init__(self, network: Network | OnnxNetwork, manifest: dict[str, Any]) -> None:
        self.network = compile_network(network)
        self.manifest = manifest
        self._inputs, self._outputs = (self.network.inputs,), (self.network.outputs,)
        self.logits = np.empty(self.network.outputs, np.float32)
        self.state, self._after = self.network.new_state(2)
        widest = 0
        if isinstance(self.network, Compiled):
            widest = max(4 * self.network.units, 2 * int(self.network.sizes.max()))
        self._scratch = np.empty(widest, np.float32)

    def decide(self, observation: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Action for observation float32[D] under mask bool[A]; `logits` holds what it compared.

        Raises ArrayError for other shapes or types, a number that is not finite, or an empty mask.
        """
        try:
            if observation.dtype is not _FLOAT32 or mask.dtype is not _BOOL:
                self._check(observation, mask)
            action = self.network.choose(
                observation, self.state, self._after, self._scratch, self.logits, mask
            )
        except Exception:  # whatever it is, an array of another form is its reason
            self._check(observation, mask)
            raise
        if action < 0:
            self._check(observation, mask)
            raise ArrayError("mask allows no action: allow at least the pass")
        return action

    def end_slot(self, observation: NDArray[np.float32]) -> None:
        """Remember the slot by its last observation float32[D]. Raises ArrayError for others."""
        if self.network.recurrent:
            check_finite("observation", observation, self._inputs, np.float32)
            self.network.forward(observation, self.state, self._after, self._scratch, self.logits)
            self.state, self._after = self._after, self.state

    def _check(self, observation: Any, mask: Any) -> None:
        check_finite("observation", observation, self._inputs, np.float32)
        check_array("mask", mask, self._outputs, np.bool_)

    def restart(self) -> None:
        """Forget the past, as at the start of an episode."""
        self.state[:] = 0.0

    def player(self) -> Player:
        """The same network for many markets at once."""
        return Player(self.network)


def load(directory: Path | str) -> FrozenPolicy:
    """Load and verify the frozen policy in `directory`; PolicyError when it must not be used."""
    manifest, contents = open_folder(Path(directory))
    network = _read(contents["policy.onnx"], manifest)
    _check_shapes(network, manifest)
    policy = FrozenPolicy(network, manifest)
    _check_forward_pass(policy, contents["policy.onnx"])
    return policy


def _read(content: bytes, manifest: dict[str, Any]) -> Network | OnnxNetwork:
    runtime = manifest.get("runtime", KERNEL)
    if runtime == KERNEL:
        return read_network(content)
    if runtime != ONNXRUNTIME:
        refuse(f"runtime: {runtime!r}, this version has {KERNEL} and {ONNXRUNTIME}", RETRAIN)
    try:
        return OnnxNetwork(content)
    except NetworkFileError as error:
        refuse(f"policy.onnx: {error}", RETRAIN)


def _check_shapes(network: Network | OnnxNetwork, manifest: dict[str, Any]) -> None:
    wanted, found = (len(FIELDS), ACTIONS), (network.inputs, network.outputs)
    if found != wanted:
        refuse(f"policy.onnx maps {found[0]} to {found[1]}, expected {wanted}", RETRAIN)
    if manifest.get("shapes") != network.shapes():
        refuse(
            f"shapes: manifest {manifest.get('shapes')}, policy.onnx {network.shapes()}", RETRAIN
        )
    recurrent = recurrent_contract(network)
    if manifest.get("recurrent") != recurrent:
        refuse(f"recurrent: manifest {manifest.get('recurrent')}, here {recurrent}", RETRAIN)


def recurrent_contract(network: Network | OnnxNetwork) -> dict[str, Any] | None:
    """How the state is kept, for the manifest; None without one."""
    if isinstance(network, OnnxNetwork):
        kept: dict[str, Any] = {"state": list(network.state_shape)} if network.recurrent else {}
    else:
        kept = {"state": ["h", "c"], "units": network.units} if network.units else {}
    if not kept:
        return None
    return kept | {
        "first": "zeros, at the first slot of a market",
        "advance": "once per slot, by the last observation of the slot",
    }


class _TestVectors(NamedTuple):
    """Recorded inputs and what any loader must make of them."""

    observations: NDArray[np.float32]
    state: NDArray[np.float32]
    masks: NDArray[np.bool_]
    logits: NDArray[np.float32]
    actions: NDArray[np.int64]


def _read_test_vectors(policy: FrozenPolicy) -> _TestVectors:
    try:
        vectors = policy.manifest["test_vectors"]
        observations = np.array(vectors["observations"], np.float32).reshape(-1, len(FIELDS))
        n = len(observations)
        state = policy.network.new_state(n)
        if policy.network.recurrent:
            state = np.array(vectors["state"], np.float32).reshape(state.shape)
        logits = np.array(vectors["logits"], np.float32).reshape(n, ACTIONS)
        masks = np.zeros(logits.shape, bool)
        for mask, allowed in zip(masks, vectors["allowed"], strict=True):
            mask[np.array(allowed, np.int64)] = True
        actions = np.array(vectors["actions"], np.int64)
        if not len(actions) == n > 0:
            raise ValueError(f"{n} observations, {len(actions)} actions")
        if actions.min() < 0 or actions.max() >= ACTIONS:
            raise ValueError(f"an action lies outside 0..{ACTIONS - 1}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        refuse(f"test_vectors cannot be used: {error!r}", RETRAIN)
    known = np.isfinite(observations).all(axis=1) & np.isfinite(state.reshape(n, -1)).all(axis=1)
    if not known.all():
        refuse(f"test vector {int(np.argmin(known))}: a number of it is not finite", RETRAIN)
    return _TestVectors(observations, state, masks, logits, actions)


def _check_forward_pass(policy: FrozenPolicy, content: bytes) -> None:
    """Kernel, onnxruntime and the recorded outputs agree on the recorded observations."""
    observations, state, masks, recorded, actions = _read_test_vectors(policy)
    if isinstance(policy.network, OnnxNetwork):
        reference, next_state = policy.network.run(observations, state.copy()), state[:, :0]
        state = next_state  # there is one way to run it: nothing to hold it against
        ours = reference
    else:
        reference, next_state = run_onnx(content, observations, state)
        ours = policy.network.run(observations, state)
    for name, mine, other in (
        ("onnxruntime", ours, reference),
        ("the recorded logits", ours, recorded),
        ("onnxruntime's next state", state.reshape(len(state), -1), next_state),
    ):
        if not mine.size:
            continue
        gap = np.abs(mine - other).max(axis=1)
        worst = int(np.argmax(gap / np.maximum(1.0, np.abs(other).max(axis=1))))
        if not gap[worst] <= TOLERANCE * max(1.0, float(np.abs(other[worst]).max())):
            refuse(
                f"test vector {worst}: the kernel differs from {name} by {gap[worst]:.3g}",
                "clear Numba's cache (NUMBA_CACHE_DIR) and load again, or train again",
            )
    # The recorded action may lose a tie by rounding on another processor, but nothing more.
    best = np.where(masks, ours, -np.inf).max(axis=1)
    taken = np.where(masks, ours, -np.inf)[np.arange(len(actions)), actions]
    if not np.all(best - taken <= 2 * TOLERANCE * np.maximum(1.0, np.abs(ours).max(axis=1))):
        refuse("test vectors: the decoded actions differ from the recorded ones", RETRAIN)


def run_onnx(
    content: bytes, observations: NDArray[np.float32], state: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [n, A] and next state [n, 2 * units] of onnxruntime on one thread.

    observations float32[n, D], state float32[n, 2, units].
    """
    session = session_of(content)
    if not state.shape[2]:
        (logits,) = session.run(["logits"], {"observation": observations})
        return np.asarray(logits, np.float32), state.reshape(len(state), -1)
    feed = {"observation": observations, "state": state}
    logits, after = map(np.asarray, session.run(["logits", "next_state"], feed))
    return logits, after.reshape(len(after), -1)
