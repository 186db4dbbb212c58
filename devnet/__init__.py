"""A local chain world: a node, the real Uniswap contracts, users. The server does not know it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devnet.config import DevnetConfig
    from devnet.local import Running


def running(config: DevnetConfig) -> AbstractContextManager[Running]:
    """Node, contracts and traffic for the length of a `with` block; see devnet.local.running."""
    # imported here: signing libraries take a second to load, and devnet.artifacts needs none
    from devnet import local

    return local.running(config)
