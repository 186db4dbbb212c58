"""The market environment; importing this registers mevrl/Market-v0 with gymnasium."""

import gymnasium

gymnasium.register(
    id="mevrl/Market-v0",
    entry_point="envs.searcher:Searcher",
    vector_entry_point="envs.vector:MarketVectorEnv",
)
