"""One policy, four forward passes: trainer, torch, onnxruntime and the serving kernel agree."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from kernels.market.action import ACTIONS
from kernels.market.observation import LIMIT, SIZE
from models.frozen import Network, compile_network, policy_graph, read_network, run_onnx
from models.policy.masked import MaskedPolicy, network_of
from models.policy.recurrent import MaskedRecurrentPolicy

OBSERVATION = spaces.Box(-LIMIT, LIMIT, (SIZE,), np.float32)
ACTION = spaces.Discrete(ACTIONS)
LANES, SLOTS = 100, 100  # 10,000 observations
ARCH = {"pi": [64, 64], "vf": [64, 64]}


@pytest.fixture(params=[0, 64], ids=["perceptron", "recurrent"])
def policy(request: pytest.FixtureRequest) -> MaskedPolicy:
    torch.manual_seed(3)
    if request.param:
        made: MaskedPolicy = MaskedRecurrentPolicy(
            OBSERVATION, ACTION, lambda _: 1e-3, net_arch=ARCH, lstm_hidden_size=request.param
        )
    else:
        made = MaskedPolicy(OBSERVATION, ACTION, lambda _: 1e-3, net_arch=ARCH)
    # Trained policies are confident; the initial one is uniform and would hide errors.
    for parameter in made.action_net.parameters():
        parameter.data *= 200.0
    return made


def observations() -> np.ndarray:
    drawn = np.random.default_rng(8).normal(0.0, 1.5, (SLOTS, LANES, SIZE))
    return np.clip(drawn, -LIMIT, LIMIT).astype(np.float32)


def by_kernel(network: Network) -> np.ndarray:
    compiled = compile_network(network)
    state = compiled.new_state(LANES)
    return np.stack([compiled.run(x, state) for x in observations()])


def by_onnx(network: Network) -> np.ndarray:
    content = policy_graph(network).SerializeToString()
    state = np.zeros((LANES, 2, network.units), np.float32)
    logits = []
    for x in observations():
        one, after = run_onnx(content, x, state)
        state = after.reshape(state.shape)
        logits.append(one)
    return np.stack(logits)


def by_torch(policy: MaskedPolicy) -> np.ndarray:
    """The library's own modules, in the library's own order."""
    with torch.no_grad():
        latent = torch.from_numpy(observations())
        if isinstance(policy, MaskedRecurrentPolicy):
            assert policy.lstm_actor is not None
            latent, _ = policy.lstm_actor(latent)
        return policy.action_net(policy.mlp_extractor.policy_net(latent)).numpy()


def test_logits_agree_on_ten_thousand_observations(policy: MaskedPolicy) -> None:
    network = network_of(policy)
    ours, theirs = by_kernel(network), by_onnx(network)
    assert ours.shape == (SLOTS, LANES, ACTIONS)
    assert np.abs(ours).max() > 1.0
    scale = np.maximum(1.0, np.abs(theirs))
    assert np.max(np.abs(ours - theirs) / scale) <= 1e-5
    assert np.max(np.abs(ours - by_torch(policy)) / scale) <= 1e-5


def test_a_network_survives_its_graph(policy: MaskedPolicy) -> None:
    network = network_of(policy)
    again = read_network(policy_graph(network).SerializeToString())
    assert again.shapes() == network.shapes()
    for (our, bias), (their, their_bias) in zip(network.layers, again.layers):
        assert np.array_equal(our, their)
        assert np.array_equal(bias, their_bias)
    for our, their in zip(network.lstm or (), again.lstm or ()):
        assert np.array_equal(our, their)


def test_weights_can_be_given_to_the_library() -> None:
    """A MaskedRecurrentPolicy is a RecurrentActorCriticPolicy with masks."""
    shape = {"lstm_hidden_size": 16, "enable_critic_lstm": True, "net_arch": [8]}
    ours = MaskedRecurrentPolicy(OBSERVATION, ACTION, lambda _: 1e-3, **shape)
    theirs = RecurrentActorCriticPolicy(OBSERVATION, ACTION, lambda _: 1e-3, **shape)
    for parameter in ours.action_net.parameters():
        parameter.data *= 200.0
    theirs.load_state_dict(ours.state_dict())
    x = torch.from_numpy(observations()[0])
    memory = ours.new_state(LANES)
    states = RNNStates((memory[0:1], memory[1:2]), (memory[2:3], memory[3:4]))
    starts = torch.zeros(LANES)
    for _ in range(3):
        with torch.no_grad():
            action, values, log_p, memory = ours.step(x, memory, None, deterministic=True)
            their_action, their_values, their_log_p, states = theirs(x, states, starts, True)
        assert torch.equal(action, their_action)
        torch.testing.assert_close(values, their_values.flatten(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(log_p, their_log_p, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(memory[2], states.vf[0][0], rtol=1e-4, atol=1e-6)
