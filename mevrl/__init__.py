"""mevrl: reinforcement learning for MEV searching. Importing it registers mevrl/Market-v0.

Every other name is loaded when it is first used, so that `import mevrl` stays light: no torch, no
Ray, no Numba. Everything else of the project is imported by its own path, e.g. `agents.bidders`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import envs  # noqa: F401  registers mevrl/Market-v0 with gymnasium

if TYPE_CHECKING:
    from agents.evaluate.comparison import evaluate_folder as evaluate
    from agents.evaluate.elsewhere import freeze_policy
    from envs.market.config import MarketConfig, PricePaths
    from envs.market.paths import paths_of_bars
    from envs.searcher import Searcher
    from envs.vector import MarketVectorEnv
    from history.prices import load_bars
    from kernels.market.action import ACTION_TABLE
    from kernels.market.observation import FIELDS
    from mevrl.commands import __version__, serve, train
    from models.frozen import FrozenPolicy
    from models.frozen import load as load_policy

__all__ = [
    "ACTION_TABLE",
    "FIELDS",
    "FrozenPolicy",
    "MarketConfig",
    "MarketVectorEnv",
    "PricePaths",
    "Searcher",
    "__version__",
    "evaluate",
    "freeze_policy",
    "load_bars",
    "load_policy",
    "paths_of_bars",
    "serve",
    "train",
]

# Where each name comes from; a second name is what it is called there.
_PLACES = {
    "ACTION_TABLE": "kernels.market.action",
    "FIELDS": "kernels.market.observation",
    "FrozenPolicy": "models.frozen",
    "MarketConfig": "envs.market.config",
    "MarketVectorEnv": "envs.vector",
    "PricePaths": "envs.market.config",
    "Searcher": "envs.searcher",
    "__version__": "mevrl.commands",
    "evaluate": "agents.evaluate.comparison:evaluate_folder",
    "freeze_policy": "agents.evaluate.elsewhere",
    "load_bars": "history.prices",
    "load_policy": "models.frozen:load",
    "paths_of_bars": "envs.market.paths",
    "serve": "mevrl.commands",
    "train": "mevrl.commands",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'mevrl' has no attribute {name!r}; it has {_names()}")
    module, _, called = _PLACES[name].partition(":")
    value = getattr(import_module(module), called or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _names() -> str:
    """The public names on one line, for messages."""
    return ", ".join(sorted(__all__))
