"""A network and a loss of your own for the project's learner: any torch module, ten lines of loss.

python examples/own_network_and_loss.py [STEPS]

In a training both are named by import path, from the folder that holds this file:

    python train.py --ppo.network own_network_and_loss:Residual --ppo.loss own_network_and_loss:loss
"""

import sys

import torch
from gymnasium import spaces
from torch import Tensor, nn

import mevrl
from agents.bidders.arms import play
from agents.learner.ppo import Minibatch, ScheduledPPO
from agents.learner.vecenv import MarketVecEnv


class Residual(nn.Module):
    """One residual block; gives logits of all actions (the learner masks them) and values."""

    def __init__(self, seen: spaces.Box, actions: spaces.Discrete, width: int = 64) -> None:
        super().__init__()
        self.enter = nn.Linear(seen.shape[0], width)
        self.block = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.logits = nn.Linear(width, int(actions.n))
        self.value = nn.Linear(width, 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """float32[n, fields] -> logits [n, actions], values [n, 1]."""
        x = self.enter(observations)
        x = x + self.block(x)
        return self.logits(x), self.value(x)


def loss(learner: ScheduledPPO, batch: Minibatch) -> Tensor:
    """PPO's clipped loss with an absolute instead of a squared error of the value."""
    values, log_p, entropy = learner.evaluate(batch)
    advantages = learner.normalised(batch.advantages)
    ratio = (log_p - batch.old_log_p).exp()
    clipped = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    value_error = (values - batch.returns).abs().mean()
    return 0.5 * value_error - clipped.mean() - learner.ent_coef * entropy.mean()


if __name__ == "__main__":
    market = mevrl.MarketConfig(episode_slots=64, ticks_per_slot=1)
    env = MarketVecEnv(mevrl.MarketVectorEnv(64, market, seed=0), reward_scale_eth=0.05)
    model = ScheduledPPO(Residual, env, n_steps=32, batch_size=512, loss=loss, seed=0)
    model.learn(int(sys.argv[1]) if len(sys.argv) > 1 else 8192)
    test = mevrl.MarketVectorEnv(64, market, split="test")
    played = play(lambda seen, masks: model.predict(seen, action_masks=masks)[0], test, seed=1)
    profit_eth = played.profit_eth.mean()
    print(f"{profit_eth:+.4f} ETH per episode after {model.num_timesteps} steps")
