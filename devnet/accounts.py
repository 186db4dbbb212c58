"""The development mnemonic's accounts (BIP-32/39/44) and EIP-1559 transactions signed by them.
These keys are public: they exist on local chains only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from devnet.config import FEE_CEILING_WEI, MNEMONIC, ROLES

DEPLOYER, SEARCHER, INFORMED = range(ROLES)


@cache
def account(index: int) -> LocalAccount:
    """Account `index` of the mnemonic: DEPLOYER, SEARCHER, INFORMED, users from ROLES on."""
    Account.enable_unaudited_hdwallet_features()
    return Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")


def searcher_key() -> str:
    """The searcher's private key as hex text, for the environment variable of the server."""
    return "0x" + bytes(account(SEARCHER).key).hex()


@dataclass(frozen=True)
class Call:
    """A transaction before signing: `to` is a checksummed address, or None to create a contract."""

    to: str | None
    data: bytes
    gas: int
    value_wei: int = 0


def sign(sender: int, nonce: int, chain_id: int, call: Call, tip_wei: int) -> tuple[str, str]:
    """Sign as account `sender`; returns the raw transaction and its hash as 0x text.

    max fee = FEE_CEILING_WEI + tip, so that the node's order is the order of tips.
    """
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "gas": call.gas,
        "maxFeePerGas": FEE_CEILING_WEI + tip_wei,
        "maxPriorityFeePerGas": tip_wei,
        "value": call.value_wei,
        "data": call.data,
    }
    if call.to is not None:
        fields["to"] = call.to
    signed = account(sender).sign_transaction(fields)
    return "0x" + bytes(signed.raw_transaction).hex(), "0x" + bytes(signed.hash).hex()
