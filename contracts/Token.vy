# pragma version ~=0.4.3
# pragma optimize gas
# pragma evm-version cancun
"""
@title Plain ERC-20 with chosen decimals, for the local chain
@license MIT
@notice The whole supply is minted to the deployer; an infinite allowance is never reduced, as in WETH9.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed

implements: IERC20
implements: IERC20Detailed

name: public(immutable(String[32]))
symbol: public(immutable(String[8]))
decimals: public(immutable(uint8))
totalSupply: public(immutable(uint256))
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(_name: String[32], _symbol: String[8], _decimals: uint8, _supply: uint256):
    name = _name
    symbol = _symbol
    decimals = _decimals
    totalSupply = _supply
    self.balanceOf[msg.sender] = _supply
    log IERC20.Transfer(sender=empty(address), receiver=msg.sender, value=_supply)


@external
def transfer(_to: address, _value: uint256) -> bool:
    self._move(msg.sender, _to, _value)
    return True


@external
def transferFrom(_from: address, _to: address, _value: uint256) -> bool:
    allowed: uint256 = self.allowance[_from][msg.sender]
    if allowed != max_value(uint256):
        self.allowance[_from][msg.sender] = allowed - _value
    self._move(_from, _to, _value)
    return True


@external
def approve(_spender: address, _value: uint256) -> bool:
    self.allowance[msg.sender][_spender] = _value
    log IERC20.Approval(owner=msg.sender, spender=_spender, value=_value)
    return True


@internal
def _move(_from: address, _to: address, _value: uint256):
    self.balanceOf[_from] -= _value
    # cannot overflow: the sum of balances is the fixed supply
    self.balanceOf[_to] = unsafe_add(self.balanceOf[_to], _value)
    log IERC20.Transfer(sender=_from, receiver=_to, value=_value)
