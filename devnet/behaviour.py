"""What users and the informed trader want to do, as router calls: pure functions of the pools, a
reference price and a random generator. Amounts by UniswapV2Library.getAmountOut; the informed
trader's by the closed form of a trade against an outside price (x = (sqrt(g R0 R1 / m) - R0) / g).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from devnet.abi import call_data
from devnet.accounts import Call
from devnet.config import GWEI, TrafficConfig
from devnet.world import Pool, Token, World

Reserves = dict[str, tuple[int, int]]  # pool address -> (reserve0, reserve1)
# Gas limits: blocks are filled by limits, so they are close to what the calls use.
GAS_FIRST_POOL = 170_000
GAS_NEXT_POOL = 80_000
INFORMED_TIP_WEI = 3 * GWEI  # outside prices do not wait
INFORMED_SLIPPAGE = 0.003
INFORMED_DEADLINE_SLOTS = 3
MAX_SLIPPAGE = 0.5
EXACT_OUT_SHARE = 0.25
ETHER_SHARE = 0.6  # of the swaps that start or end in WETH


@dataclass(frozen=True)
class Terms:
    """What a swap's sender asks for; `as_ether`: WETH at either end of the path is taken as ETH."""

    recipient: str
    slippage: float
    deadline_s: int
    tip_wei: int
    exact_out: bool = False
    as_ether: bool = False


@dataclass(frozen=True)
class Swap:
    """A router call that somebody wants to send, with its priority fee."""

    call: Call
    tip_wei: int
    function: str


def get_amount_out(amount_in: int, reserve_in: int, reserve_out: int, pool: Pool) -> int:
    """Output of a V2 swap, rounded down as in the contract."""
    with_fee = amount_in * pool.fee_numerator
    return with_fee * reserve_out // (reserve_in * pool.fee_denominator + with_fee)


def oriented(pool: Pool, token_in: str, reserves: Reserves) -> tuple[int, int]:
    """(reserve of `token_in`, reserve of the other token)."""
    reserve0, reserve1 = reserves[pool.address]
    return (reserve0, reserve1) if token_in == pool.token0 else (reserve1, reserve0)


def other_token(pool: Pool, token: str) -> str:
    """The pool's other token."""
    return pool.token1 if token == pool.token0 else pool.token0


def quote(pools: list[Pool], token_in: str, amount_in: int, reserves: Reserves) -> int:
    """Output of swapping along `pools`, starting with `token_in`."""
    amount, token = amount_in, token_in
    for pool in pools:
        amount = get_amount_out(amount, *oriented(pool, token, reserves), pool)
        token = other_token(pool, token)
    return amount


def user_swap(
    world: World,
    config: TrafficConfig,
    reserves: Reserves,
    user: str,
    now_s: float,
    rng: np.random.Generator,
) -> Swap | None:
    """A swap: pool by depth, side by coin, lognormal size; None when its output would be 0."""
    depths = np.array([_depth_weth(world, pool, reserves) for pool in world.pools])
    first = world.pools[int(rng.choice(len(depths), p=depths / depths.sum()))]
    token_in = first.token0 if rng.random() < 0.5 else first.token1
    route = [first]
    if rng.random() < config.multi_hop_share:
        route += _continuation(world, first, other_token(first, token_in), token_in, rng)
    fraction = config.size_median * math.exp(config.size_sigma * rng.standard_normal())
    reserve_in, _ = oriented(first, token_in, reserves)
    amount_in = int(reserve_in * min(fraction, config.size_max))
    amount_out = quote(route, token_in, amount_in, reserves)
    if amount_out == 0:
        return None
    slippage = config.slippage_median * math.exp(config.slippage_sigma * rng.standard_normal())
    tip_gwei = config.tip_median_gwei * math.exp(config.tip_sigma * rng.standard_normal())
    terms = Terms(
        recipient=user,
        slippage=min(slippage, MAX_SLIPPAGE),
        deadline_s=int(now_s + max(2 * world.slot_s + 1, rng.exponential(config.deadline_s))),
        tip_wei=int(tip_gwei * GWEI),
        exact_out=rng.random() < EXACT_OUT_SHARE,
        as_ether=rng.random() < ETHER_SHARE,
    )
    return _router_swap(world, route, token_in, amount_in, amount_out, terms)


def _depth_weth(world: World, pool: Pool, reserves: Reserves) -> float:
    token = world.token(pool.token0)
    return reserves[pool.address][0] / 10**token.decimals * token.price_weth


def _continuation(
    world: World, first: Pool, token: str, avoid: str, rng: np.random.Generator
) -> list[Pool]:
    """A second pool of the same exchange from `token` to something other than `avoid`."""
    choices = [
        pool
        for pool in world.pools
        if pool.exchange == first.exchange
        and pool != first
        and token in (pool.token0, pool.token1)
        and other_token(pool, token) != avoid
    ]
    return [choices[int(rng.integers(len(choices)))]] if choices else []


def _router_swap(
    world: World, route: list[Pool], token_in: str, amount_in: int, amount_out: int, terms: Terms
) -> Swap:
    """Router02 call that swaps along `route`, whose quote is `amount_in` for `amount_out`."""
    path = [token_in]
    for pool in route:
        path.append(other_token(pool, path[-1]))
    ether_in = terms.as_ether and path[0] == world.weth
    ether_out = terms.as_ether and path[-1] == world.weth
    source, target = ("ETH" if ether_in else "Tokens"), ("ETH" if ether_out else "Tokens")
    tail = (path, terms.recipient, terms.deadline_s)
    if terms.exact_out:
        function = f"swap{source}ForExact{target}"
        spent = int(amount_in * (1 + terms.slippage)) + 1  # at most
        arguments = (amount_out, *tail) if ether_in else (amount_out, spent, *tail)
    else:
        function = f"swapExact{source}For{target}"
        spent, least = amount_in, int(amount_out * (1 - terms.slippage))
        arguments = (least, *tail) if ether_in else (spent, least, *tail)
    router = {exchange.name: exchange.router for exchange in world.exchanges}[route[0].exchange]
    data = call_data("UniswapV2Router02", function, *arguments)
    gas = GAS_FIRST_POOL + GAS_NEXT_POOL * (len(route) - 1)
    return Swap(Call(router, data, gas, spent if ether_in else 0), terms.tip_wei, function)


class Reference:
    """Reference prices of tokens in WETH: each log price returns to its start (discrete
    Ornstein-Uhlenbeck per slot), so that prices stay bounded however long the chain runs."""

    def __init__(self, tokens: tuple[Token, ...], weth: str, config: TrafficConfig) -> None:
        self._start = {token.address: token for token in tokens}
        self._moving = [token.address for token in tokens if token.address != weth]
        self._log = dict.fromkeys(self._start, 0.0)
        self._decay = 0.5 ** (1 / config.reference_half_life_slots)
        self._sigma = config.reference_sigma

    def advance(self, rng: np.random.Generator) -> None:
        """One slot."""
        for address in self._moving:
            shock = self._sigma * rng.standard_normal()
            self._log[address] = self._decay * self._log[address] + shock

    def price(self, address: str) -> float:
        """WETH wei per smallest unit of the token."""
        token = self._start[address]
        return token.price_weth * math.exp(self._log[address]) * 10.0 ** (18 - token.decimals)


def informed_swaps(
    world: World,
    config: TrafficConfig,
    reserves: Reserves,
    reference: Reference,
    trader: str,
    now_s: float,
) -> list[Swap]:
    """The most profitable trades of pools against the reference price, best first."""
    found = []
    for pool in world.pools:
        for token_in in (pool.token0, pool.token1):
            trade = _against_reference(pool, token_in, config, reserves, reference)
            if trade is not None:
                found.append((*trade, pool, token_in))
    found.sort(key=lambda item: -item[0])
    terms = Terms(
        recipient=trader,
        slippage=INFORMED_SLIPPAGE,
        deadline_s=int(now_s + INFORMED_DEADLINE_SLOTS * world.slot_s + 1),
        tip_wei=INFORMED_TIP_WEI,
    )
    swaps = []
    for _, amount_in, pool, token_in in found[: config.informed_swaps]:
        amount_out = quote([pool], token_in, amount_in, reserves)
        swaps.append(_router_swap(world, [pool], token_in, amount_in, amount_out, terms))
    return swaps


def _against_reference(
    pool: Pool, token_in: str, config: TrafficConfig, reserves: Reserves, reference: Reference
) -> tuple[float, int] | None:
    """(profit in wei, input) of buying the pool's other token with `token_in` until the marginal
    price after the fee meets the reference; None inside the band."""
    reserve_in, reserve_out = oriented(pool, token_in, reserves)
    price_in = reference.price(token_in)
    price_out = reference.price(other_token(pool, token_in))
    fair = price_in / price_out  # units out per unit in
    kept = pool.fee_numerator / pool.fee_denominator
    if kept * reserve_out / reserve_in < fair * (1 + config.informed_band):
        return None
    amount_in = int((math.sqrt(kept * reserve_in * reserve_out / fair) - reserve_in) / kept)
    if amount_in <= 0:
        return None
    amount_out = get_amount_out(amount_in, reserve_in, reserve_out, pool)
    return amount_out * price_out - amount_in * price_in, amount_in
