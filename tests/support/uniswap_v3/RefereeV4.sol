// SPDX-License-Identifier: MIT
pragma solidity =0.7.6;
pragma abicoder v2;

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

struct PoolKey {
    address currency0;
    address currency1;
    uint24 fee;
    int24 tickSpacing;
    address hooks;
}

struct ModifyLiquidityParams {
    int24 tickLower;
    int24 tickUpper;
    int256 liquidityDelta;
    bytes32 salt;
}

struct SwapParams {
    bool zeroForOne;
    int256 amountSpecified;
    uint160 sqrtPriceLimitX96;
}

interface IPoolManager {
    function initialize(PoolKey memory key, uint160 price) external returns (int24);

    function unlock(bytes calldata data) external returns (bytes memory);

    function swap(PoolKey memory key, SwapParams memory params, bytes calldata data) external returns (int256);

    function modifyLiquidity(PoolKey memory key, ModifyLiquidityParams memory params, bytes calldata data)
        external
        returns (int256, int256);

    function sync(address currency) external;

    function settle() external payable returns (uint256);

    function take(address currency, address to, uint256 amount) external;

    function extsload(bytes32 slot) external view returns (bytes32);

    function setProtocolFeeController(address controller) external;

    function setProtocolFee(PoolKey memory key, uint24 fee) external;
}

/// Owns one pool of the real PoolManager: trades in it, holds its positions, settles its deltas.
contract Trader {
    uint256 private constant POOLS_SLOT = 6;
    uint256 private constant LIQUIDITY_OFFSET = 3;

    struct After {
        int256 amount0;
        int256 amount1;
        uint160 sqrtPriceX96;
        int24 tick;
        uint128 liquidity;
    }

    IPoolManager public manager;
    PoolKey public key;

    function deploy(bytes memory code, uint24 fee, int24 spacing, uint160 price) external {
        address created;
        bytes memory initcode = abi.encodePacked(code, abi.encode(address(this)));
        assembly {
            created := create(0, add(initcode, 32), mload(initcode))
        }
        require(created != address(0), 'deploy');
        manager = IPoolManager(created);
        address token0 = address(new Token());
        address token1 = address(new Token());
        if (token0 > token1) (token0, token1) = (token1, token0);
        key = PoolKey(token0, token1, fee, spacing, address(0));
        manager.initialize(key, price);
    }

    function setProtocolFee(uint24 fee) external {
        manager.setProtocolFeeController(address(this));
        manager.setProtocolFee(key, fee);
    }

    function swap(bool zeroForOne, int256 amount, uint160 limit) external returns (After memory) {
        return act(abi.encode(true, abi.encode(SwapParams(zeroForOne, amount, limit))));
    }

    function modify(int24 lower, int24 upper, int256 delta) external returns (After memory) {
        return act(abi.encode(false, abi.encode(ModifyLiquidityParams(lower, upper, delta, 0))));
    }

    function act(bytes memory data) private returns (After memory result) {
        (result.amount0, result.amount1) = abi.decode(manager.unlock(data), (int256, int256));
        bytes32 pool = keccak256(abi.encode(keccak256(abi.encode(key)), POOLS_SLOT));
        uint256 slot0 = uint256(manager.extsload(pool));
        result.sqrtPriceX96 = uint160(slot0);
        result.tick = int24(slot0 >> 160);
        result.liquidity = uint128(uint256(manager.extsload(bytes32(uint256(pool) + LIQUIDITY_OFFSET))));
    }

    /// Amounts are returned as V3 signs them, positive paid to the pool, without collected fees.
    function unlockCallback(bytes calldata data) external returns (bytes memory) {
        (bool isSwap, bytes memory params) = abi.decode(data, (bool, bytes));
        int256 delta;
        int256 fees;
        if (isSwap) {
            delta = manager.swap(key, abi.decode(params, (SwapParams)), '');
        } else {
            (delta, fees) = manager.modifyLiquidity(key, abi.decode(params, (ModifyLiquidityParams)), '');
        }
        settle(key.currency0, delta >> 128);
        settle(key.currency1, int128(delta));
        return abi.encode((fees >> 128) - (delta >> 128), int256(int128(fees)) - int128(delta));
    }

    function settle(address currency, int256 delta) private {
        if (delta < 0) {
            manager.sync(currency);
            Token(currency).mint(address(manager), uint256(-delta));
            manager.settle();
        } else if (delta > 0) {
            manager.take(currency, address(this), uint256(delta));
        }
    }
}
