"""The searcher's key and its EIP-1559 transactions: RLP, keccak and libsecp256k1 through coincurve.

Formats: EIP-2718 and EIP-1559 (type 2), the yellow paper's RLP. A key is read from the place that
the configuration names; it never appears in a log, an error, a repr or a report.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import NamedTuple

from coincurve import PrivateKey, PublicKey

from live.node.wire import keccak256
from live.settings.config import StartError

TYPE_1559 = b"\x02"
SELF_TEST_DIGEST = bytes(range(32))


class SignedTransaction(NamedTuple):
    """Bytes ready for a node, and their hash as 0x text."""

    raw: bytes
    hash: str


class FeeTransaction(NamedTuple):
    """An unsigned EIP-1559 transaction without access list; prices in wei per gas."""

    chain_id: int
    nonce: int
    max_priority_fee_wei: int
    max_fee_wei: int
    gas_limit: int
    to: bytes
    value_wei: int
    calldata: bytes


def rlp_bytes(item: bytes) -> bytes:
    """RLP of a byte string."""
    if len(item) == 1 and item[0] < 0x80:
        return item
    return _length_prefix(len(item), 0x80) + item


def rlp_integer(value: int) -> bytes:
    """RLP of a non-negative integer: big-endian without leading zeros, 0 as the empty string."""
    return rlp_bytes(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rlp_list(payload: bytes) -> bytes:
    """RLP of a list whose items are already encoded and joined."""
    return _length_prefix(len(payload), 0xC0) + payload


def _length_prefix(length: int, base: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = (length.bit_length() + 7) // 8
    return bytes((base + 55 + size,)) + length.to_bytes(size, "big")


class Signer:
    """Signs with one key. Build it with `load_key`; `address` is its account (20 bytes)."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        point = self._key.public_key.format(compressed=False)
        self.address = keccak256(point[1:])[12:]
        _assert_backend(self._key)

    def __repr__(self) -> str:
        return f"Signer(0x{self.address.hex()})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a signer holds a key and is never copied to another place")

    def sign(self, transaction: FeeTransaction) -> SignedTransaction:
        """Sign; the signature is deterministic (RFC 6979), s is low as EIP-2 demands."""
        body = (
            rlp_integer(transaction.chain_id)
            + rlp_integer(transaction.nonce)
            + rlp_integer(transaction.max_priority_fee_wei)
            + rlp_integer(transaction.max_fee_wei)
            + rlp_integer(transaction.gas_limit)
            + rlp_bytes(transaction.to)
            + rlp_integer(transaction.value_wei)
            + rlp_bytes(transaction.calldata)
            + b"\xc0"  # empty access list
        )
        digest = keccak256(TYPE_1559 + rlp_list(body))
        signature = self._key.sign_recoverable(digest, hasher=None)
        raw = TYPE_1559 + rlp_list(
            body
            + rlp_integer(signature[64])
            + rlp_integer(int.from_bytes(signature[:32], "big"))
            + rlp_integer(int.from_bytes(signature[32:64], "big"))
        )
        return SignedTransaction(raw, "0x" + keccak256(raw).hex())


def _assert_backend(key: PrivateKey) -> None:
    """The compiled libsecp256k1 signs, and what it signs verifies: else nothing may be sent."""
    if importlib.util.find_spec("coincurve._libsecp256k1") is None:
        raise StartError("coincurve has no compiled libsecp256k1: reinstall coincurve")
    signature = key.sign_recoverable(SELF_TEST_DIGEST, hasher=None)
    found = PublicKey.from_signature_and_message(signature, SELF_TEST_DIGEST, hasher=None)
    if found.format() != key.public_key.format():
        raise StartError("coincurve recovers another key than the one that signed: reinstall it")


def load_key(source: str, password_source: str) -> Signer:
    """Signer from `env:NAME` (32 bytes of hex) or from a keystore file (Web3 secret storage).

    StartError names the place, never what it holds. A variable is removed from the environment, so
    that no child process inherits it.
    """
    if source.startswith("env:"):
        return Signer(_secret_bytes(_take_variable(source, "key"), source))
    path = Path(source)
    try:
        keystore = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StartError(
            f"key is {source!r}: it must be env:NAME or the path of a keystore file "
            f"({type(error).__name__})"
        ) from None
    from eth_account import Account  # half a second of imports, needed for keystores only

    password = _take_variable(password_source, "key_password")
    try:
        secret = bytes(Account.decrypt(keystore, password))
    except (ValueError, KeyError, TypeError) as error:
        raise StartError(
            f"keystore {path}: cannot be opened with the password from {password_source} "
            f"({type(error).__name__})"
        ) from None
    return Signer(secret)


def _take_variable(source: str, setting: str) -> str:
    if not source.startswith("env:"):
        # the value is not repeated: somebody may have put the secret itself there
        raise StartError(f"{setting} must name a variable, as env:NAME does")
    name = source.removeprefix("env:")
    value = os.environ.pop(name, None)
    if value is None:
        raise StartError(f"{setting} is {source}, but the variable {name} is not set: export it")
    return value


def _secret_bytes(text: str, source: str) -> bytes:
    try:
        secret = bytes.fromhex(text.strip().removeprefix("0x"))
        PrivateKey(secret)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise StartError(f"key from {source}: expected 64 hexadecimal digits of a valid key")
    return secret
