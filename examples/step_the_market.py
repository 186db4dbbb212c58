"""Step the market: 64 markets at once, always bidding 50 % of the best opportunity's net profit.

python examples/step_the_market.py
"""

import numpy as np

import mevrl

# One row per action: what it bids on, how much, in which channel. Action 0 passes.
table = mevrl.ACTION_TABLE
half = min(
    (k for k, action in enumerate(table) if action.opportunity == 0),
    key=lambda k: abs(table[k].bid_ppm - 500_000),
)

market = mevrl.MarketConfig(episode_slots=64, ticks_per_slot=1)
# The same: gymnasium.make_vec("mevrl:mevrl/Market-v0", num_envs=64, config=market, seed=0).
env = mevrl.MarketVectorEnv(64, market, seed=0)
observations, _ = env.reset()
print(f"{len(mevrl.FIELDS)} numbers per observation, e.g. {mevrl.FIELDS[0]}")

profit_eth = np.zeros(64)
won = np.zeros(64, int)
for _ in range(market.episode_slots):
    allowed = env.action_masks()  # bool[64, actions]
    actions = np.where(allowed[:, half], half, 0)
    observations, rewards, terminated, truncated, infos = env.step(actions)
    profit_eth += infos["profit"]
    won += infos["won"]
print(f"profit per episode {profit_eth.mean():.4f} ETH, auctions won {won.mean():.1f}")

# One market, drawn as text; render_mode="rgb_array" gives an image.
one = mevrl.Searcher(render_mode="ansi", seed=0)
one.reset()
for _ in range(30):
    one.step(half if one.action_masks()[half] else 0)
print(one.render())
