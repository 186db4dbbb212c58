"""A frozen policy survives the round trip bit for bit, and every wrong folder is refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from kernels.market.action import ACTIONS, BIDS
from kernels.market.observation import SIZE
from kernels.market.tile import HISTORY
from kernels.networks.features import N_FEATURES
from models import frozen
from models.frozen import Lstm, Network, policy_graph
from models.policy.export import replace_folder, sha256, write_policy
from models.volatility.onnx_file import export_forecaster
from tests.support.frozen_policy import random_forecaster

HIDDEN = (24, 16)
Edit = Callable[[dict[str, Any]], None]


def random_network(rng: np.random.Generator, units: int) -> Network:
    def normal(scale: float, *shape: int) -> np.ndarray:
        return rng.normal(0.0, scale, shape).astype(np.float32)

    widths = [units or SIZE, *HIDDEN, ACTIONS]
    layers = tuple((normal(1.5 / a**0.5, b, a), normal(0.3, b)) for a, b in pairwise(widths))
    if not units:
        return Network(layers)
    lstm = Lstm(normal(0.2, 4 * units, SIZE), normal(0.5, 4 * units, units), normal(0.3, 4 * units))
    return Network(layers, lstm)


def random_inputs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    observations = np.clip(rng.normal(0.0, 1.5, (n, SIZE)), -5.0, 5.0).astype(np.float32)
    masks = np.zeros((n, ACTIONS), bool)
    masks[:, 0] = True
    for mask in masks:
        mask[1 : 1 + BIDS * int(rng.integers(0, 5))] = True
    return observations, masks


@pytest.fixture(scope="module", params=[0, 12], ids=["perceptron", "recurrent"])
def network(request: pytest.FixtureRequest) -> Network:
    return random_network(np.random.default_rng(4), request.param)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Path:
    rng = np.random.default_rng(5)
    forecaster = random_forecaster(rng)
    directory = tmp_path_factory.mktemp("run") / "policy"
    observations, masks = random_inputs(rng, 40)
    write_policy(
        directory,
        network,
        observations,
        masks,
        lambda d: (
            export_forecaster(forecaster, d) | {"fallback_log_variance": [-13.0, -11.9, -10.5]}
        ),
        {"seed": 5},
        {"torch": 1},
        rng.normal(0.0, 0.5, (40, 2, network.units)).astype(np.float32),
    )
    return directory


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "policy"))


def edit_manifest(folder: Path, edit: Edit) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def expected_logits(network: Network, observations: np.ndarray) -> np.ndarray:
    """float64[T, n, A] of observations [T, n, D], written down from the equations."""
    sigmoid = lambda z: 1.0 / (1.0 + np.exp(-z))  # noqa: E731
    h = c = np.zeros((observations.shape[1], network.units))
    logits = []
    for x in observations.astype(np.float64):
        hidden = x
        if network.lstm is not None:
            weight_x, weight_h, bias = network.lstm
            gates = np.split(x @ weight_x.T + h @ weight_h.T + bias, 4, axis=1)
            c = sigmoid(gates[1]) * c + sigmoid(gates[0]) * np.tanh(gates[2])
            hidden = h = sigmoid(gates[3]) * np.tanh(c)
        for weight, bias in network.layers[:-1]:
            hidden = np.tanh(hidden @ weight.T + bias)
        logits.append(hidden @ network.layers[-1][0].T + network.layers[-1][1])
    return np.stack(logits)


def test_a_loaded_policy_plays_as_the_exported_network(folder: Path, network: Network) -> None:
    policy = frozen.load(folder)
    player = policy.player()
    inputs = [random_inputs(np.random.default_rng(k), 30) for k in range(12)]
    expected = expected_logits(network, np.stack([observations for observations, _ in inputs]))
    taken = set()
    for k, (observations, masks) in enumerate(inputs):
        actions = player(observations, masks)
        assert masks[np.arange(30), actions].all()
        best = np.where(masks, expected[k], -np.inf).max(axis=1)
        assert np.all(best - expected[k][np.arange(30), actions] <= 2e-5)
        # The single market of the server decides as the same market among many.
        policy.decide(observations[5] * 0.5, masks[5])
        assert policy.decide(observations[5], masks[5]) == actions[5]
        np.testing.assert_allclose(policy.logits, expected[k][5], atol=2e-5)
        policy.end_slot(observations[5])
        taken |= set(actions.tolist())
    assert len(taken) > 5


def test_a_restart_forgets(folder: Path, network: Network) -> None:
    policy = frozen.load(folder)
    player = policy.player()
    observations, masks = random_inputs(np.random.default_rng(3), 8)
    first = [policy.decide(observations[0], masks[0]), policy.logits.copy()]
    for _ in range(3):
        player(observations, masks)
        policy.end_slot(observations[0])
    policy.decide(observations[0], masks[0])
    assert np.array_equal(policy.logits, first[1]) == (network.units == 0)
    policy.restart()
    assert policy.decide(observations[0], masks[0]) == first[0]
    assert np.array_equal(policy.logits, first[1])
    with pytest.raises(ValueError, match="3 markets after 8: call restart"):
        player(observations[:3], masks[:3])
    player.restart()
    assert player(observations[:3], masks[:3])[0] == first[0]


def test_decide_allocates_no_arrays(folder: Path) -> None:
    policy = frozen.load(folder)
    observations, masks = random_inputs(np.random.default_rng(7), 2)
    buffers = policy.logits.ctypes.data, policy._scratch.ctypes.data
    first = policy.decide(observations[0], masks[0])
    kept = policy.logits.copy()
    policy.decide(observations[1], masks[1])
    assert policy.decide(observations[0], masks[0]) == first
    assert np.array_equal(policy.logits, kept)
    assert buffers == (policy.logits.ctypes.data, policy._scratch.ctypes.data)


def test_the_forecaster_comes_back_whole(folder: Path) -> None:
    original = random_forecaster(np.random.default_rng(5))
    served = frozen.load_forecaster(folder)
    rng = np.random.default_rng(8)
    inputs = rng.normal(size=(20, N_FEATURES))
    expected = original.run(inputs, np.zeros(20, bool), original.new_state())[:, -1]
    assert np.array_equal([served.step(row).copy() for row in inputs], expected)
    served.restart()
    assert np.array_equal(served.step(inputs[0]), expected[0])
    assert served.fallback.tolist() == pytest.approx([-13.0, -11.9, -10.5])


def test_loading_needs_no_learner(folder: Path) -> None:
    code = (
        "import sys; from models import frozen; "
        f"frozen.load({str(folder)!r}); frozen.load_forecaster({str(folder)!r}); "
        "heavy = {'torch', 'ray', 'stable_baselines3', 'sb3_contrib', 'envs', 'polars'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def set_field(manifest: dict[str, Any]) -> None:
    manifest["fields"][12][0] = "opportunity0_other"


def drop_field(manifest: dict[str, Any]) -> None:
    manifest["fields"].pop()


def set_bid(manifest: dict[str, Any]) -> None:
    manifest["actions"]["bid_ppm"][3] += 1


def set_logit(manifest: dict[str, Any]) -> None:
    manifest["test_vectors"]["logits"][9][2] += 1e-3


def set_action(manifest: dict[str, Any]) -> None:
    vectors = manifest["test_vectors"]
    row = next(i for i, allowed in enumerate(vectors["allowed"]) if len(allowed) > 1)
    ranked = sorted(vectors["allowed"][row], key=lambda a: vectors["logits"][row][a])
    vectors["actions"][row] = ranked[0]


def allow_nowhere(manifest: dict[str, Any]) -> None:
    manifest["test_vectors"]["allowed"][0] = [ACTIONS]


def set_infinite_observation(manifest: dict[str, Any]) -> None:
    manifest["test_vectors"]["observations"][0][0] = float("nan")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_field, r"fields\[12\]: the policy reads \['opportunity0_other'.*train"),
        (drop_field, r"fields: the policy reads \d+, this version gives \d+"),
        (set_bid, r"actions\.bid_ppm: the policy means"),
        (set_logit, r"test vector 9: the kernel differs from the recorded logits by 0\.001"),
        (set_action, "decoded actions differ"),
        (allow_nowhere, "test_vectors cannot be used"),
        (set_infinite_observation, "test vector 0"),
        (lambda m: m.update(format=99), "format is 99, this version reads 2"),
        (lambda m: m.update(fields="none"), "fields is str, expected a list"),
        (lambda m: m.update(decode="sample"), "decode: the policy says 'sample'"),
        (lambda m: m.update(horizons_minutes=[5]), "horizons_minutes"),
        (lambda m: m["shapes"].update(hidden=[1]), "shapes: manifest"),
        (lambda m: m.update(recurrent={"units": 3}), "recurrent: manifest"),
        (lambda m: m.update(history_auctions=3), "history_auctions: the policy says 3"),
        (lambda m: m.pop("test_vectors"), "test_vectors cannot be used"),
        (lambda m: m.pop("sha256"), "policy.onnx: sha256 is"),
        (lambda m: m.pop("actions"), "actions.count: the policy means None"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(folder: Path, edit: Edit, message: str) -> None:
    edit_manifest(folder, edit)
    with pytest.raises(frozen.PolicyError, match=message):
        frozen.load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m["volatility"].update(fallback_log_variance=[1.0]), "one finite value per"),
        (lambda m: m["volatility"]["features"].reverse(), "volatility.features"),
        (lambda m: m["volatility"].update(members=3), "not a HAR-LSTM ensemble"),
        (lambda m: m["volatility"]["mlp_sizes"].append(3), "not a HAR-LSTM ensemble"),
        (lambda m: m["volatility"].pop("test_vectors"), "volatility.test_vectors"),
        (
            lambda m: m["volatility"]["test_vectors"]["log_variance"][5].reverse(),
            "volatility test step 5: the kernel differs from the recorded forecast",
        ),
    ],
)
def test_a_forecaster_described_otherwise_is_refused(
    folder: Path, edit: Edit, message: str
) -> None:
    edit_manifest(folder, edit)
    with pytest.raises(frozen.PolicyError, match=message):
        frozen.load_forecaster(folder)


@pytest.mark.parametrize("name", ["policy.onnx", "volatility.onnx"])
def test_changed_or_missing_files_are_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-5] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(frozen.PolicyError, match=rf"{name}: sha256 is .*copy the policy folder"):
        frozen.load(folder)
    (folder / name).unlink()
    with pytest.raises(frozen.PolicyError, match=f"{name} cannot be read"):
        frozen.load(folder)


def test_missing_folder_and_manifest_are_named(folder: Path) -> None:
    with pytest.raises(frozen.PolicyError, match=r"nowhere does not exist: train one"):
        frozen.load(folder / "nowhere")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(frozen.PolicyError, match=r"manifest\.json cannot be read"):
        frozen.load(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(frozen.PolicyError, match=r"manifest\.json is missing"):
        frozen.load(folder)


def replace_graph(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change the graph and make the manifest vouch for it."""
    model = onnx.load(folder / "policy.onnx")
    change(model)
    (folder / "policy.onnx").write_bytes(model.SerializeToString())
    edit_manifest(
        folder, lambda m: m["sha256"].update({"policy.onnx": sha256(folder / "policy.onnx")})
    )


def use_relu(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Relu"


def scale_gemm(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("alpha", 2.0))


def swap_layers(model: onnx.ModelProto) -> None:
    tensors = model.graph.initializer
    tensors[0].name, tensors[2].name = tensors[2].name, tensors[0].name


@pytest.mark.parametrize("change", [use_relu, scale_gemm, swap_layers])
def test_a_graph_of_another_kind_is_refused(
    folder: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    replace_graph(folder, change)
    with pytest.raises(frozen.PolicyError, match="not a policy network of this version"):
        frozen.load(folder)


def test_a_graph_of_other_width_is_refused(folder: Path) -> None:
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(ACTIONS, SIZE + 1)), rng.normal(size=ACTIONS))]
    wider = policy_graph(
        Network(tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers))
    )
    replace_graph(folder, lambda model: model.CopyFrom(wider))
    with pytest.raises(frozen.PolicyError, match=rf"maps {SIZE + 1} to {ACTIONS}"):
        frozen.load(folder)


def test_export_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    observations, masks = random_inputs(rng, 3)

    def fail(_: Path) -> dict[str, Any]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_policy(
            tmp_path / "policy", random_network(rng, 0), observations, masks, fail, {}, {"torch": 1}
        )
    assert list(tmp_path.iterdir()) == []


def test_replacing_a_folder_keeps_only_the_new_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "word").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "word").read_text() == "new"


def test_manifest_says_what_made_it(exported: Path, network: Network) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["opset"] == 17
    assert manifest["history_auctions"] == HISTORY
    assert manifest["shapes"]["lstm"] == network.units
    assert (manifest["recurrent"] is None) == (network.units == 0)
    assert manifest["config"] == {"seed": 5}
    assert manifest["threads"] == {"torch": 1}
    assert set(manifest["sha256"]) == {"policy.onnx", "volatility.onnx"}
    assert {path.name for path in exported.iterdir()} == {
        "policy.onnx",
        "volatility.onnx",
        "manifest.json",
    }
