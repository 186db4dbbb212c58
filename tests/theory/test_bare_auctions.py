"""O5 to O8, O11: the compiled auctions reproduce what auction theory says of them.

Tolerances are stated beside each figure in docs/validation.md.
"""

import numpy as np
import pytest

from agents.studies.known_bids import PLAYED, check
from envs.auctions.equilibrium import CommonValue
from envs.auctions.game import AuctionGame, AuctionVectorEnv

pytestmark = pytest.mark.theory


@pytest.mark.parametrize("name", PLAYED)
def test_played_auctions(name: str) -> None:
    """O5 to O8, and who wins O11."""
    findings = check(name)
    assert findings
    assert [finding for finding in findings if finding.holds is not True] == []


def test_revert_protection_brings_the_proposer_more() -> None:
    """O7: with it all bid value - gas, 0.98, and nothing fails."""
    game = CommonValue(5)
    env = AuctionVectorEnv(5 * 100, AuctionGame(game, learners=5))
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step_fractions(np.ones(500))
    paid = infos["bid"][infos["won"] > 0.0]
    np.testing.assert_allclose(paid, 0.98)
    np.testing.assert_allclose(rewards[infos["won"] > 0.0], 0.0, atol=1e-15)
    assert game.revenue < 0.955 < 0.98
