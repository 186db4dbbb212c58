"""CEX-DEX traders: what they trade and what they pay the builder."""

import numpy as np
import pytest

from envs.market.physics import (
    INFORMED_BOOK,
    INFORMED_PAID,
    INFORMED_TRADES,
    INFORMED_VOLUME,
    PRICE,
    book_row,
)
from envs.vector import MarketVectorEnv
from tests.support.worlds import BARE, markets, some_actions


def _row(env: MarketVectorEnv, row: int) -> np.ndarray:
    return env._tiles[:, env._physics.world_row + row].reshape(-1).copy()


def test_they_have_more_than_a_quarter_of_the_volume() -> None:
    """CEX-DEX is more than a quarter of the volume of the five biggest exchanges."""
    env = markets(128, seed=19)
    for step in range(3 * 200):
        env.step(some_actions(env, step))
    volume = {name: eth.sum() for name, eth in env.volume().items()}
    assert 0.25 < volume["informed"] / (volume["informed"] + volume["users"]) < 0.5


def test_volume_is_what_the_books_gave_away() -> None:
    """One trade of a slot: its input leaves the traders' book, at the prices of that moment."""
    env = markets(64, seed=20, **BARE | {"informed.probability": 0.2, "users.swap_gas": 1})
    tokens, world = len(env.config.pools.symbols), env._physics.world_row
    book = slice(*(book_row(world, tokens, INFORMED_BOOK) + np.array([0, tokens])))
    seen = 0
    for _ in range(100):
        before, tiles = [_row(env, r) for r in (INFORMED_VOLUME, INFORMED_TRADES)], env._tiles
        price = tiles[:, world + PRICE : world + PRICE + tokens].copy()
        held, paid = tiles[:, book].copy(), _row(env, INFORMED_PAID)
        env.step(np.zeros(64, np.int64))
        one = _row(env, INFORMED_TRADES) - before[1] == 1.0
        given = -np.minimum((tiles[:, book] - held) * price, 0.0).sum(axis=1).reshape(-1)
        volume = _row(env, INFORMED_VOLUME) - before[0]
        # The hub pays the builder too: that is no volume.
        spent = (_row(env, INFORMED_PAID) - paid)[one]
        assert np.all(given[one] <= volume[one] + spent + 1e-6)
        assert np.all(given[one] >= volume[one] - spent - 1e-6)
        assert np.all(volume[_row(env, INFORMED_TRADES) == before[1]] == 0.0)
        seen += np.count_nonzero(one)
    assert seen > 200
    assert np.all(env.volume()["users"] > 0.0)


def test_payments_follow_their_quantiles_as_far_as_profit_goes() -> None:
    env = markets(256, seed=21, ticks_per_slot=1)
    shares = []
    for _ in range(200):
        before = [_row(env, r) for r in (INFORMED_PAID, INFORMED_VOLUME, INFORMED_TRADES)]
        env.step(np.zeros(256, np.int64))
        paid, volume, trades = (
            _row(env, r) - old
            for r, old in zip((INFORMED_PAID, INFORMED_VOLUME, INFORMED_TRADES), before)
        )
        one = trades == 1.0
        shares.append(1e4 * paid[one] / volume[one])
    found = np.quantile(np.concatenate(shares), (0.05, 0.25, 0.5, 0.75, 0.95))
    # Priority fees lift the lowest; profits cap the highest.
    np.testing.assert_allclose(found, env.config.informed.payment_bps, rtol=0.25, atol=0.25)
    free = {"informed.payment_bps": (0.0,) * 5, "gas.own_tip_gwei": 0.0}
    nothing = markets(16, **free)
    for _ in range(30):
        nothing.step(np.zeros(16, np.int64))
    assert np.all(_row(nothing, INFORMED_PAID) == pytest.approx(0.0))
    assert np.all(_row(nothing, INFORMED_TRADES) > 0.0)
