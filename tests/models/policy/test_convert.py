"""Policies trained elsewhere decide the same when they are served, or are refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

import envs  # noqa: F401  registers mevrl/Market-v0
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from models import frozen
from models.frozen import Network, OnnxNetwork, PolicyError, compile_network
from models.policy.convert import CannotServeError, servable
from models.policy.export import sha256, write_policy
from models.volatility.onnx_file import export_forecaster
from tests.support.frozen_policy import FALLBACK, random_forecaster
from tests.support.worlds import paths

ROWS = 24


@pytest.fixture(scope="module")
def env() -> gymnasium.Env:
    return gymnasium.make("mevrl/Market-v0", paths=paths(), seed=1)


@pytest.fixture(scope="module")
def observations() -> np.ndarray:
    return np.random.default_rng(3).uniform(-3.0, 3.0, (ROWS, SIZE)).astype(np.float32)


class Columns(BaseFeaturesExtractor):
    """A features extractor of one's own: the first 40 columns, twice."""

    def __init__(self, observation_space: gymnasium.Space) -> None:
        super().__init__(observation_space, 80)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.cat([observations[:, :40], observations[:, :40].abs()], 1)


@pytest.mark.parametrize(
    ("algorithm", "kwargs", "kind"),
    [
        (PPO, {}, Network),
        (MaskablePPO, {}, Network),
        (PPO, {"activation_fn": nn.ReLU, "net_arch": [48, 32]}, OnnxNetwork),
        (MaskablePPO, {"features_extractor_class": Columns}, OnnxNetwork),
        (PPO, {"net_arch": []}, Network),
    ],
)
def test_an_actor_of_stable_baselines_keeps_its_probabilities(
    env: gymnasium.Env,
    observations: np.ndarray,
    algorithm: type[Any],
    kwargs: dict[str, Any],
    kind: type[Any],
) -> None:
    model = algorithm("MlpPolicy", env, policy_kwargs=kwargs, seed=5, device="cpu")
    network = servable(model)
    assert isinstance(network, kind)
    compiled = compile_network(network)
    ours = compiled.run(observations, compiled.new_state(ROWS))
    with torch.no_grad():
        theirs = model.policy.get_distribution(torch.from_numpy(observations)).distribution.logits
    ours -= np.log(np.exp(ours).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)


def test_values_of_dqn_are_logits(env: gymnasium.Env, observations: np.ndarray) -> None:
    model = DQN("MlpPolicy", env, buffer_size=10, seed=5, device="cpu")
    network = servable(model)
    chosen, _ = model.predict(observations, deterministic=True)
    ours = network.run(observations, network.new_state(ROWS))  # type: ignore[union-attr]
    np.testing.assert_array_equal(ours.argmax(axis=1), chosen)


def test_a_recurrent_policy_remembers(env: gymnasium.Env, observations: np.ndarray) -> None:
    kwargs = {"lstm_hidden_size": 12, "net_arch": [16]}
    model = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=kwargs, seed=5, device="cpu")
    network = servable(model)
    assert isinstance(network, Network)
    assert network.units == 12
    compiled = compile_network(network)
    state, theirs = compiled.new_state(ROWS), None
    for step in range(4):
        logits = compiled.run(observations, state)
        starts = np.full(ROWS, step == 0)
        chosen, theirs = model.predict(observations, theirs, starts, deterministic=True)
        np.testing.assert_array_equal(logits.argmax(axis=1), chosen)


class Memory(nn.Module):
    """A module with a state, as the learner of this project takes it."""

    state_shape = (2, 8)

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(SIZE, 8)
        self.head = nn.Linear(8, ACTIONS)

    def forward(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(observations, (state[0], state[1]))
        return self.head(h), h[:, 0], torch.stack([h, c])


def test_a_module_with_a_state_keeps_it_per_market(observations: np.ndarray) -> None:
    torch.manual_seed(2)
    module = Memory()
    network = servable(module)
    assert isinstance(network, OnnxNetwork)
    assert network.state_shape == (2, 8)
    ours, theirs = network.new_state(ROWS), torch.zeros(2, ROWS, 8)
    for _ in range(5):
        logits = network.run(observations, ours)
        with torch.no_grad():
            wanted, _, theirs = module(torch.from_numpy(observations), theirs)
        np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-5)
        np.testing.assert_allclose(ours, theirs.transpose(0, 1).numpy(), atol=1e-5)


def test_a_module_is_traced_as_it_decides_and_left_as_it_was(observations: np.ndarray) -> None:
    torch.manual_seed(2)
    normal = nn.BatchNorm1d(SIZE)
    normal.running_mean = torch.full((SIZE,), 0.3)
    module = nn.Sequential(normal, nn.Linear(SIZE, 32), nn.Dropout(0.5), nn.Linear(32, ACTIONS))
    normal.eval()
    module[2].train()
    network = servable(module)
    assert isinstance(network, OnnxNetwork)
    assert (normal.training, module[2].training) == (False, True)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(observations)).numpy()
    np.testing.assert_allclose(
        network.run(observations, network.new_state(ROWS)), wanted, atol=1e-5
    )


class Wrong(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Any]) -> None:
        super().__init__()
        # Without a bias the sign of a logit follows that of the observation: a branch is left.
        self.head = nn.Linear(SIZE, ACTIONS, bias=False)
        self.answer = forward

    def forward(self, observations: Tensor) -> Any:
        return self.answer(self.head(observations))


def branching(logits: Tensor) -> Tensor:
    return -logits if float(logits.detach()[0, 0]) > 0.0 else logits + len(logits)


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (7, "int cannot be served"),
        (Path("nowhere.onnx"), "nowhere.onnx: no such file"),
        (b"no graph", "not an ONNX graph"),
        (nn.Linear(SIZE, 3), r"\[16, 3\] for 16 observations"),
        (nn.Linear(3, ACTIONS), "does not take observations"),
        (Wrong(lambda logits: {"logits": logits}), "dict for 16 observations"),
        (Wrong(lambda logits: logits.double()), "DOUBLE; give float32"),
        (Wrong(lambda logits: logits - logits.mean(0)), "treat every row by itself"),
        (Wrong(lambda logits: logits + torch.rand_like(logits)), "draw"),
        (Wrong(lambda logits: logits / 0.0), "not finite"),
        (Wrong(branching), "differ"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(policy: Any, named: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(CannotServeError, match=named):
        servable(policy)


def test_policies_for_other_markets_and_changed_observations_are_refused(
    env: gymnasium.Env,
) -> None:
    cart = PPO("MlpPolicy", gymnasium.make("CartPole-v1"), device="cpu")
    with pytest.raises(CannotServeError, match="it observes Box"):
        servable(cart)
    normalised = VecNormalize(make_vec_env("mevrl/Market-v0", env_kwargs={"paths": paths()}))
    with pytest.raises(CannotServeError, match="VecNormalize"):
        servable(PPO("MlpPolicy", normalised, device="cpu"))
    two = {"n_lstm_layers": 2, "lstm_hidden_size": 8}
    with pytest.raises(CannotServeError, match="one layer"):
        servable(RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=two, device="cpu"))


def graph(
    inputs: list[Any], outputs: list[Any], nodes: list[Any], domain: str = "", **more: Any
) -> bytes:
    proto = helper.make_graph(nodes, "policy", inputs, outputs, **more)
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(proto, opset_imports=opsets)
    model.ir_version = 8
    return model.SerializeToString()


def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def test_an_onnx_file_with_other_names_is_read(tmp_path: Path, observations: np.ndarray) -> None:
    torch.manual_seed(1)
    module = nn.Linear(SIZE, ACTIONS)
    weights = [
        onnx.numpy_helper.from_array(module.weight.detach().numpy(), "w"),
        onnx.numpy_helper.from_array(module.bias.detach().numpy(), "b"),
    ]
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    content = graph([value("x", "k", SIZE)], [value("y", "k", ACTIONS)], nodes, initializer=weights)
    (tmp_path / "mine.onnx").write_bytes(content)
    network = servable(tmp_path / "mine.onnx")
    assert isinstance(network, OnnxNetwork)
    with torch.no_grad():
        wanted = module(torch.from_numpy(observations)).numpy()
    np.testing.assert_allclose(
        network.run(observations, network.new_state(ROWS)), wanted, atol=1e-5
    )


def external() -> Any:
    tensor = onnx.numpy_helper.from_array(np.zeros((SIZE, ACTIONS), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return tensor


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            graph(
                [value("observation", "n", SIZE), value("more", "n", 1)],
                [value("logits", "n", SIZE)],
                [helper.make_node("Identity", ["observation"], ["logits"])],
            ),
            "inputs observation, more: give observation and state",
        ),
        (
            graph(
                [value("observation", "n", SIZE)],
                [value("logits", "n", SIZE)],
                [helper.make_node("Identity", ["observation"], ["logits"])],
            ),
            f"this version has \\[n, {ACTIONS}\\]",
        ),
        (
            graph(
                [value("observation", "n", SIZE, kind=TensorProto.DOUBLE)],
                [value("logits", "n", SIZE, kind=TensorProto.DOUBLE)],
                [helper.make_node("Identity", ["observation"], ["logits"])],
            ),
            "DOUBLE; give float32",
        ),
        (
            graph(
                [value("observation", "n", SIZE)],
                [value("logits", "n", ACTIONS)],
                [helper.make_node("Mystery", ["observation"], ["logits"], domain="mine")],
                domain="mine",
            ),
            "operators of mine",
        ),
        (
            graph(
                [value("observation", "n", SIZE)],
                [value("logits", "n", ACTIONS)],
                [helper.make_node("MatMul", ["observation", "w"], ["logits"])],
                initializer=[external()],
            ),
            "another file",
        ),
    ],
)
def test_graphs_that_must_not_run_are_refused(content: bytes, named: str) -> None:
    with pytest.raises(CannotServeError, match=named):
        servable(content)


def test_an_unknown_logit_is_never_chosen() -> None:
    """The square root of a negative number is no number: that action loses, alone it is a pass."""
    weights = np.zeros((SIZE, ACTIONS), np.float32)
    weights[0] = 1.0
    nodes = [
        helper.make_node("MatMul", ["observation", "w"], ["z"]),
        helper.make_node("Add", ["z", "shift"], ["s"]),
        helper.make_node("Sqrt", ["s"], ["logits"]),
    ]
    shift = np.full(ACTIONS, 1.0, np.float32)
    shift[5] = 9.0
    content = graph(
        [value("observation", "n", SIZE)],
        [value("logits", "n", ACTIONS)],
        nodes,
        initializer=[
            onnx.numpy_helper.from_array(weights, "w"),
            onnx.numpy_helper.from_array(shift, "shift"),
        ],
    )
    policy = frozen.FrozenPolicy(OnnxNetwork(content), {})
    allowed = np.ones(ACTIONS, np.bool_)
    observation = np.zeros(SIZE, np.float32)
    for first, wanted in ((0.0, 5), (-3.0, 5), (-20.0, 0)):
        observation[0] = first
        assert policy.decide(observation, allowed) == wanted
        assert policy.player()(observation[None], allowed[None])[0] == wanted


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, observations: np.ndarray) -> Path:
    """A folder with a network that remembers and that the kernel does not run."""
    torch.manual_seed(4)
    network = servable(Memory())
    assert isinstance(network, OnnxNetwork)
    rng = np.random.default_rng(5)
    forecaster = random_forecaster(rng)
    directory = tmp_path_factory.mktemp("run") / "policy"
    masks = rng.random((ROWS, ACTIONS)) < 0.3
    masks[:, 0] = True
    write_policy(
        directory,
        network,
        observations,
        masks,
        lambda d: export_forecaster(forecaster, d) | {"fallback_log_variance": FALLBACK},
        {"seed": 5},
        {"torch": 1},
        rng.normal(0.0, 0.5, (ROWS, *network.state_shape)).astype(np.float32),
    )
    return directory


def test_a_frozen_policy_of_any_architecture_decides_and_remembers(
    exported: Path, observations: np.ndarray
) -> None:
    policy = frozen.load(exported)
    assert policy.manifest["runtime"] == "onnxruntime"
    allowed = np.ones(ACTIONS, np.bool_)
    player, seen = policy.player(), []
    for row in observations[:6]:
        first = policy.decide(row, allowed)
        assert policy.decide(row, allowed) == first  # nothing moves before the slot ends
        seen.append(policy.logits.copy())
        assert player(row[None], allowed[None])[0] == first
        policy.end_slot(row)
    policy.restart()
    policy.decide(observations[1], allowed)
    assert np.abs(policy.logits - seen[1]).max() > 1e-6  # without the first slot it is another one


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m | {"runtime": "magic"}, "runtime: 'magic'"),
        (lambda m: m | {"runtime": "kernel"}, "not a policy network of this version"),
        (lambda m: m | {"shapes": {}}, "shapes"),
        (lambda m: m | {"recurrent": None}, "recurrent"),
    ],
)
def test_a_changed_manifest_is_refused(
    exported: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "policy"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(change(manifest)))
    with pytest.raises(PolicyError, match=named):
        frozen.load(folder)


def test_another_network_than_the_recorded_one_is_refused(exported: Path, tmp_path: Path) -> None:
    torch.manual_seed(9)
    other = servable(Memory())
    assert isinstance(other, OnnxNetwork)
    folder = Path(shutil.copytree(exported, tmp_path / "policy"))
    (folder / "policy.onnx").write_bytes(other.content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["policy.onnx"] = sha256(folder / "policy.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PolicyError, match="differs from the recorded logits"):
        frozen.load(folder)
