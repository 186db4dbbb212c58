"""One market for the tests of a module; each test gets it as it was at the start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.executor_market import BLOCK, COINBASE, Market, build_market


@pytest.fixture(scope="module")
def built_market() -> Market:
    return build_market()


@pytest.fixture
def market(built_market: Market) -> Iterator[Market]:
    """The market at its start, whatever the test before did."""
    snapshot = built_market.chain.evm.snapshot()
    yield built_market
    built_market.chain.evm.revert(snapshot)
    built_market.chain.block(BLOCK, COINBASE)
