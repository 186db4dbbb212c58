"""The policy network of the trainer: masked categorical actions at a third of the usual cost.

Same network, distribution and gradients as sb3-contrib's MaskableActorCriticPolicy, which builds
and checks three distributions per minibatch: with 129 actions that is half of a training step.
"""

import numpy as np
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor

Masks = Tensor | np.ndarray | None

# Its exponential is exactly 0 in float32, and it stays finite when multiplied by that 0.
FORBIDDEN = -1e8


def sample(probabilities: Tensor) -> Tensor:
    """One action int64[n] per row of probabilities [n, A], never one of probability 0.

    Inverse distribution function on one uniform per row: torch.multinomial draws A exponentials.
    """
    cumulated = probabilities.cumsum(dim=1)
    total = cumulated[:, -1:]
    threshold = torch.rand(total.shape) * total
    # Rounding may lift the product to the total, beyond the last action.
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulated, threshold, right=True).squeeze(1)


class MaskedPolicy(MaskableActorCriticPolicy):
    """Actor and critic of MaskablePPO for Box observations and Discrete actions."""

    def _logits(self, obs: Tensor, action_masks: Masks) -> tuple[Tensor, Tensor]:
        """(masked logits [n, A], values [n, 1]) of observations [n, D]."""
        latent_pi, latent_vf = self.mlp_extractor(self.extract_features(obs))
        logits = self.action_net(latent_pi)
        if action_masks is not None:
            allowed = torch.as_tensor(action_masks, device=logits.device).bool()
            logits = logits.masked_fill(~allowed.reshape(logits.shape), FORBIDDEN)
        return logits, self.value_net(latent_vf)

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [n], values [n, 1] and log probabilities [n] of the actions."""
        logits, values = self._logits(obs, action_masks)
        if deterministic:
            actions = logits.argmax(dim=1)
        else:
            actions = sample(torch.softmax(logits, dim=1))
        log_p = torch.log_softmax(logits, dim=1)
        return actions, values, log_p.gather(1, actions[:, None]).squeeze(1)

    def evaluate_actions(
        self, obs: Tensor, actions: Tensor, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n, 1], log probabilities [n] of given actions, entropies [n]."""
        logits, values = self._logits(obs, action_masks)
        log_p = torch.log_softmax(logits, dim=1)
        # softmax, not exp(log_p): torch's exp is eight times slower where it underflows.
        entropy = -(torch.softmax(logits, dim=1) * log_p).sum(dim=1)
        return values, log_p.gather(1, actions.long().reshape(-1, 1)).squeeze(1), entropy
