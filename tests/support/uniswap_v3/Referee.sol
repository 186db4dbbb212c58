// SPDX-License-Identifier: MIT
pragma solidity =0.7.6;
pragma abicoder v2;

import '@uniswap/v3-core/contracts/libraries/FullMath.sol';
import '@uniswap/v3-core/contracts/libraries/LiquidityMath.sol';
import '@uniswap/v3-core/contracts/libraries/SqrtPriceMath.sol';
import '@uniswap/v3-core/contracts/libraries/SwapMath.sol';
import '@uniswap/v3-core/contracts/libraries/Tick.sol';
import '@uniswap/v3-core/contracts/libraries/TickMath.sol';

/// Every library function of v3-core that the kernels reproduce, callable one by one.
contract Libraries {
    function mulDiv(uint256 a, uint256 b, uint256 d) external pure returns (uint256) {
        return FullMath.mulDiv(a, b, d);
    }

    function mulDivRoundingUp(uint256 a, uint256 b, uint256 d) external pure returns (uint256) {
        return FullMath.mulDivRoundingUp(a, b, d);
    }

    function getSqrtRatioAtTick(int24 tick) external pure returns (uint160) {
        return TickMath.getSqrtRatioAtTick(tick);
    }

    function getTickAtSqrtRatio(uint160 price) external pure returns (int24) {
        return TickMath.getTickAtSqrtRatio(price);
    }

    function nextPriceFromInput(uint160 price, uint128 liquidity, uint256 amount, bool zeroForOne)
        external
        pure
        returns (uint160)
    {
        return SqrtPriceMath.getNextSqrtPriceFromInput(price, liquidity, amount, zeroForOne);
    }

    function nextPriceFromOutput(uint160 price, uint128 liquidity, uint256 amount, bool zeroForOne)
        external
        pure
        returns (uint160)
    {
        return SqrtPriceMath.getNextSqrtPriceFromOutput(price, liquidity, amount, zeroForOne);
    }

    function amount0Delta(uint160 a, uint160 b, uint128 liquidity, bool up) external pure returns (uint256) {
        return SqrtPriceMath.getAmount0Delta(a, b, liquidity, up);
    }

    function amount1Delta(uint160 a, uint160 b, uint128 liquidity, bool up) external pure returns (uint256) {
        return SqrtPriceMath.getAmount1Delta(a, b, liquidity, up);
    }

    function computeSwapStep(uint160 current, uint160 target, uint128 liquidity, int256 remaining, uint24 fee)
        external
        pure
        returns (uint160, uint256, uint256, uint256)
    {
        return SwapMath.computeSwapStep(current, target, liquidity, remaining, fee);
    }

    function addDelta(uint128 x, int128 y) external pure returns (uint128) {
        return LiquidityMath.addDelta(x, y);
    }

    function maxLiquidityPerTick(int24 spacing) external pure returns (uint128) {
        return Tick.tickSpacingToMaxLiquidityPerTick(spacing);
    }
}

/// Just enough of an ERC20 for a pool; anyone may mint.
contract Token {
    mapping(address => uint256) public balanceOf;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        require(balanceOf[msg.sender] >= amount, 'balance');
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        return true;
    }
}

interface IPool {
    function initialize(uint160 price) external;

    function slot0() external view returns (uint160 sqrtPriceX96, int24 tick);

    function liquidity() external view returns (uint128);

    function token0() external view returns (address);

    function token1() external view returns (address);

    function mint(address to, int24 lower, int24 upper, uint128 amount, bytes calldata data)
        external
        returns (uint256, uint256);

    function burn(int24 lower, int24 upper, uint128 amount) external returns (uint256, uint256);

    function swap(address to, bool zeroForOne, int256 amount, uint160 limit, bytes calldata data)
        external
        returns (int256, int256);
}

/// Deploys pool bytecode with any fee and spacing (as factory and deployer at once), owns its
/// positions, trades with it, and pays in the callbacks of Uniswap and PancakeSwap.
contract Trader {
    struct Parameters {
        address factory;
        address token0;
        address token1;
        uint24 fee;
        int24 tickSpacing;
    }

    struct After {
        int256 amount0;
        int256 amount1;
        uint160 sqrtPriceX96;
        int24 tick;
        uint128 liquidity;
    }

    Parameters public parameters;
    address public owner = msg.sender;

    function deploy(bytes memory code, uint24 fee, int24 spacing, uint160 price) external returns (address pool) {
        address token0 = address(new Token());
        address token1 = address(new Token());
        if (token0 > token1) (token0, token1) = (token1, token0);
        parameters = Parameters(address(this), token0, token1, fee, spacing);
        assembly {
            pool := create(0, add(code, 32), mload(code))
        }
        require(pool != address(0), 'deploy');
        IPool(pool).initialize(price);
    }

    function mint(IPool pool, int24 lower, int24 upper, uint128 amount) external returns (After memory) {
        (uint256 amount0, uint256 amount1) =
            pool.mint(address(this), lower, upper, amount, abi.encode(pool.token0(), pool.token1()));
        return state(pool, int256(amount0), int256(amount1));
    }

    function burn(IPool pool, int24 lower, int24 upper, uint128 amount) external returns (After memory) {
        (uint256 amount0, uint256 amount1) = pool.burn(lower, upper, amount);
        return state(pool, -int256(amount0), -int256(amount1));
    }

    function swap(IPool pool, bool zeroForOne, int256 amount, uint160 limit) external returns (After memory) {
        (int256 amount0, int256 amount1) =
            pool.swap(address(this), zeroForOne, amount, limit, abi.encode(pool.token0(), pool.token1()));
        return state(pool, amount0, amount1);
    }

    function state(IPool pool, int256 amount0, int256 amount1) private view returns (After memory) {
        (uint160 price, int24 tick) = pool.slot0();
        return After(amount0, amount1, price, tick, pool.liquidity());
    }

    function pay(int256 amount0, int256 amount1, bytes calldata data) private {
        (address token0, address token1) = abi.decode(data, (address, address));
        if (amount0 > 0) Token(token0).mint(msg.sender, uint256(amount0));
        if (amount1 > 0) Token(token1).mint(msg.sender, uint256(amount1));
    }

    function uniswapV3SwapCallback(int256 amount0, int256 amount1, bytes calldata data) external {
        pay(amount0, amount1, data);
    }

    function uniswapV3MintCallback(uint256 amount0, uint256 amount1, bytes calldata data) external {
        pay(int256(amount0), int256(amount1), data);
    }

    function pancakeV3SwapCallback(int256 amount0, int256 amount1, bytes calldata data) external {
        pay(amount0, amount1, data);
    }

    function pancakeV3MintCallback(uint256 amount0, uint256 amount1, bytes calldata data) external {
        pay(int256(amount0), int256(amount1), data);
    }
}
