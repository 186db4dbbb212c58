"""The deployed Balancer V2 contracts as referee: the Vault and weighted pools of 2021 and 2023 from
npm, run in process by pyrevm. Nothing here knows the kernels."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyrevm
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from devnet import artifacts

HERE = Path(__file__).parent
TASKS = "node_modules/@balancer-labs/v2-deployments/dist/tasks"
VAULT = "20210418-vault/artifact/Vault.json"
FEE_PROVIDER = (
    "20220725-protocol-fee-percentages-provider/artifact/ProtocolFeePercentagesProvider.json"
)
# Without and with exact powers for exponents 1, 2 and 4.
POOL_2021 = "20210418-weighted-pool/bytecode/WeightedPool.json"
POOL_2023 = "20230206-weighted-pool-v3/artifact/WeightedPool.json"
CALLER = "0x" + "11" * 20
NOBODY = "0x" + "00" * 20
GAS = 10**9
DECIMALS_SLOT = 2  # WETH9: name, symbol, decimals
DAY = 86_400
ONE = 10**18
ON_SWAP = (
    "onSwap((uint8,address,address,uint256,bytes32,uint256,address,address,bytes),uint256,uint256)"
)
REQUEST = "(uint8,address,address,uint256,bytes32,uint256,address,address,bytes)"
GIVEN_IN, GIVEN_OUT = 0, 1


class RevertError(Exception):
    """The pool reverted; `code` is Balancer's, such as BAL#304."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@cache
def node_folder() -> Path:
    """Where package.json beside this file is installed: the user's cache, at first use."""
    manifest = (HERE / "package.json").read_bytes()
    root = artifacts.cache_folder()
    folder = root / f"npm-{hashlib.sha256(manifest).hexdigest()[:16]}"
    if not folder.is_dir():
        with artifacts._locked(root / "npm.lock"):
            if not folder.is_dir():
                artifacts._install(manifest, folder)
    return folder


@cache
def creation_code(path: str) -> bytes:
    """Creation code of one deployment task."""
    content = json.loads((node_folder() / TASKS / path).read_bytes())
    code = content["bytecode"] if "bytecode" in content else content["creationCode"]
    return bytes.fromhex(code.removeprefix("0x"))


class Balancer:
    """The Vault, and weighted pools over tokens of chosen decimals."""

    def __init__(self) -> None:
        self.machine: Any = pyrevm.EVM(gas_limit=2**62)
        self.machine.set_balance(CALLER, 10**30)
        self.machine.set_block_env(pyrevm.BlockEnv(timestamp=1_700_000_000))
        types = ["address", "address", "uint256", "uint256"]
        self.vault = self.deploy(creation_code(VAULT), types, [CALLER, NOBODY, 90 * DAY, 30 * DAY])
        self.fees = self.deploy(
            creation_code(FEE_PROVIDER),
            ["address", "uint256", "uint256"],
            [self.vault, ONE // 2, ONE // 2],
        )
        self.vault_code = self.machine.get_code(self.vault)

    def set_vault_code(self, code: bytes) -> None:
        """Give the Vault its code, which pools need to register, or none.

        Pools answer the Vault only, and the EVM starts no call from an address with code.
        """
        account = pyrevm.AccountInfo(nonce=1, code=code)
        self.machine.insert_account_info(self.vault, account)
        self.machine.set_balance(self.vault, 10**30)

    def deploy(self, code: bytes, types: Sequence[str], values: Sequence[Any]) -> str:
        """Run creation code with constructor arguments; the address."""
        return self.machine.deploy(CALLER, code + encode(list(types), list(values)))

    def token(self, decimals: int) -> str:
        """A WETH9 with other decimals."""
        address = self.deploy(artifacts.artifact("WETH9").bytecode, [], [])
        self.machine.insert_account_storage(address, DECIMALS_SLOT, decimals)
        return address

    def pool(
        self, year: int, weights: Sequence[int], decimals: Sequence[int], fee: int
    ) -> "WeightedPool":
        """A pool of 2021 or 2023; weights in 1e-18 sum to one, fee in 1e-18."""
        self.set_vault_code(self.vault_code)
        tokens = sorted((self.token(count) for count in decimals), key=lambda text: int(text, 16))
        # Sorting moves the decimals along: read them back.
        ordered = [self.machine.storage(token, DECIMALS_SLOT) for token in tokens]
        if year == 2021:
            types = ["address", "string", "string", "address[]", *["uint256[]"]]
            types += ["uint256", "uint256", "uint256", "address"]
            values = [self.vault, "", "", tokens, list(weights), fee, 90 * DAY, 30 * DAY, CALLER]
            address = self.deploy(creation_code(POOL_2021), types, values)
        else:
            params = "(string,string,address[],uint256[],address[],address[],uint256)"
            nobody = [NOBODY] * len(tokens)
            types = [params, "address", "address", "uint256", "uint256", "address", "string"]
            values = [
                ("", "", tokens, list(weights), nobody, nobody, fee),
                self.vault,
                self.fees,
                90 * DAY,
                30 * DAY,
                CALLER,
                "",
            ]
            address = self.deploy(creation_code(POOL_2023), types, values)
        self.set_vault_code(b"")
        return WeightedPool(self, address, tokens, ordered)

    def call(self, to: str, data: bytes) -> bytes:
        """Call as the Vault, without keeping state; raises RevertError."""
        try:
            return bytes(self.machine.message_call(self.vault, to, data, gas=GAS, is_static=True))
        except RuntimeError as error:
            text = str(error)
            at = text.find("output: 0x")
            if at < 0:
                raise RevertError(text) from error
            output = bytes.fromhex(text[at + 10 :].rstrip(" }"))
            length = int.from_bytes(output[36:68], "big")
            raise RevertError(output[68 : 68 + length].decode()) from error


class WeightedPool:
    """One deployed pool; balances are what the Vault hands it, so any state is one call away."""

    def __init__(
        self, balancer: Balancer, address: str, tokens: list[str], decimals: list[int]
    ) -> None:
        self.balancer, self.address = balancer, address
        self.tokens, self.decimals = tokens, decimals
        self.pool_id = balancer.call(address, keccak(text="getPoolId()")[:4])

    def on_swap(
        self, kind: int, i: int, j: int, amount: int, balance_in: int, balance_out: int
    ) -> int:
        """What the Vault would be told for a swap of token i into token j."""
        request = (
            kind,
            self.tokens[i],
            self.tokens[j],
            amount,
            self.pool_id,
            0,
            CALLER,
            CALLER,
            b"",
        )
        data = keccak(text=ON_SWAP)[:4]
        data += encode([REQUEST, "uint256", "uint256"], [request, balance_in, balance_out])
        return int.from_bytes(self.balancer.call(self.address, data), "big")
