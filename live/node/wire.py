"""JSON bodies of the node, read with msgspec and turned into events. All of it is hostile: a wrong
type, an unknown digit or a number out of range raises ValueError, and nothing else can happen.
Ethereum's hash stands here, where nobody who wants it has to import the holder of a key.

Shapes: execution-apis (eth_subscribe, eth_getTransactionReceipt).
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec
from Crypto.Hash import keccak as _keccak

from live.node.events import Head, PendingTransaction, PoolLog, Receipt

Malformed = (ValueError, RecursionError)  # msgspec's errors are ValueErrors
MAX_UINT64 = (1 << 64) - 1
MAX_LOG_TOPICS = 4


def keccak256(data: bytes) -> bytes:
    """Ethereum's hash, 32 bytes: of topics, selectors, transactions, accounts."""
    return _keccak.new(digest_bits=256, data=data).digest()


class RpcFault(msgspec.Struct):
    """The `error` member of an answer."""

    code: int = 0
    message: str = ""


class Notification(msgspec.Struct):
    """The `params` member of a subscription's message."""

    subscription: str
    result: msgspec.Raw


class Frame(msgspec.Struct):
    """One message: an answer (id, result or error) or a notification (method, params)."""

    id: int | None = None
    method: str | None = None
    params: Notification | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: RpcFault | None = None


class HeadBody(msgspec.Struct, rename="camel"):
    number: str
    hash: str
    parent_hash: str
    timestamp: str
    gas_used: str
    gas_limit: str
    base_fee_per_gas: str = "0x0"
    transactions: list[str] = []


class TransactionBody(msgspec.Struct, rename="camel"):
    hash: str
    sender: str = msgspec.field(name="from")
    nonce: str
    gas: str
    input: str
    value: str
    to: str | None = None
    gas_price: str | None = None
    max_fee_per_gas: str | None = None
    max_priority_fee_per_gas: str | None = None


class LogBody(msgspec.Struct, rename="camel"):
    address: str
    topics: list[str]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    transaction_index: str
    log_index: str
    removed: bool = False


class ReceiptBody(msgspec.Struct, rename="camel"):
    transaction_hash: str
    block_number: str
    block_hash: str
    transaction_index: str
    status: str
    gas_used: str
    effective_gas_price: str
    logs: list[LogBody]


decode_frame = msgspec.json.Decoder(Frame).decode
_decode_head = msgspec.json.Decoder(HeadBody).decode
_decode_transaction = msgspec.json.Decoder(TransactionBody).decode
_decode_log = msgspec.json.Decoder(LogBody).decode
_decode_logs = msgspec.json.Decoder(list[LogBody]).decode
_decode_receipt = msgspec.json.Decoder(ReceiptBody | None).decode
_decode_text = msgspec.json.Decoder(str).decode


def quantity(text: str, bits: int = 64) -> int:
    """Integer of a hex quantity such as 0x1f, at most `bits` wide.

    int() alone would take underscores, blanks and signs, and any number of digits.
    """
    if not (text.startswith("0x") and text.isascii() and text.isalnum()):
        raise ValueError("not a hex quantity")
    value = int(text[2:], 16) if len(text) <= 66 else 1 << bits
    if value >> bits:
        raise ValueError(f"quantity wider than {bits} bits")
    return value


def data(text: str) -> bytes:
    """Bytes of 0x-prefixed hex; unhexlify refuses blanks, which bytes.fromhex would skip."""
    if not text.startswith("0x"):
        raise ValueError("hex data without 0x")
    return binascii.unhexlify(text[2:])


def address(text: str) -> bytes:
    """The 20 bytes of an address."""
    raw = data(text)
    if len(raw) != 20:
        raise ValueError(f"address of {len(raw)} bytes")
    return raw


def hash32(text: str) -> str:
    """A 32-byte hash as lower-case text."""
    if len(data(text)) != 32:
        raise ValueError("hash is not 32 bytes")
    return text.lower()


def read_head(raw: bytes | msgspec.Raw, received_ns: int) -> Head:
    """A header, from `newHeads` or from a block answer."""
    return _head(_decode_head(raw), received_ns)


def read_block(raw: bytes | msgspec.Raw, received_ns: int) -> tuple[Head, tuple[str, ...]]:
    """A block answer without full bodies: its header and its transaction hashes in order."""
    body = _decode_head(raw)
    return _head(body, received_ns), tuple(text.lower() for text in body.transactions)


def _head(body: HeadBody, received_ns: int) -> Head:
    return Head(
        number=quantity(body.number),
        hash=hash32(body.hash),
        parent_hash=hash32(body.parent_hash),
        timestamp_s=quantity(body.timestamp),
        base_fee_wei=quantity(body.base_fee_per_gas),
        gas_used=quantity(body.gas_used),
        gas_limit=quantity(body.gas_limit),
        received_ns=received_ns,
    )


def read_transaction(raw: bytes | msgspec.Raw, received_ns: int) -> PendingTransaction:
    """A full pending transaction; a legacy gas price stands for both caps."""
    return pending_transaction(_decode_transaction(raw), received_ns)


def pending_transaction(body: TransactionBody, received_ns: int) -> PendingTransaction:
    """Event of a decoded body."""
    cap, tip = body.max_fee_per_gas, body.max_priority_fee_per_gas
    if cap is None or tip is None:
        if body.gas_price is None:
            raise ValueError("transaction without a gas price")
        cap = tip = body.gas_price
    return PendingTransaction(
        hash=hash32(body.hash),
        sender=address(body.sender),
        to=None if body.to is None else address(body.to),
        nonce=quantity(body.nonce),
        value_wei=quantity(body.value, 256),
        gas=quantity(body.gas),
        max_fee_wei=min(quantity(cap, 256), MAX_UINT64),
        max_priority_fee_wei=min(quantity(tip, 256), MAX_UINT64),
        calldata=data(body.input),
        received_ns=received_ns,
    )


def read_pool_snapshot(raw: bytes | msgspec.Raw, received_ns: int) -> list[PendingTransaction]:
    """The executable part of `txpool_content`."""
    content = msgspec.json.decode(raw, type=dict[str, dict[str, dict[str, TransactionBody]]])
    return [
        pending_transaction(body, received_ns)
        for by_nonce in content.get("pending", {}).values()
        for body in by_nonce.values()
    ]


def read_log(raw: bytes | msgspec.Raw, received_ns: int) -> PoolLog:
    """One log notification."""
    return _log(_decode_log(raw), received_ns)


def read_logs(raw: bytes | msgspec.Raw, received_ns: int) -> list[PoolLog]:
    """The answer of `eth_getLogs`."""
    return [_log(body, received_ns) for body in _decode_logs(raw)]


def _log(body: LogBody, received_ns: int) -> PoolLog:
    if len(body.topics) > MAX_LOG_TOPICS:
        raise ValueError(f"log with {len(body.topics)} topics")
    return PoolLog(
        address=address(body.address),
        topics=tuple(data(topic) for topic in body.topics),
        data=data(body.data),
        block_number=quantity(body.block_number),
        block_hash=hash32(body.block_hash),
        transaction_hash=hash32(body.transaction_hash),
        transaction_index=quantity(body.transaction_index),
        log_index=quantity(body.log_index),
        removed=body.removed,
        received_ns=received_ns,
    )


def read_receipt(raw: bytes | msgspec.Raw, received_ns: int) -> Receipt | None:
    """The answer of `eth_getTransactionReceipt`; None while the transaction is not in a block."""
    body = _decode_receipt(raw)
    if body is None:
        return None
    return Receipt(
        transaction_hash=hash32(body.transaction_hash),
        block_number=quantity(body.block_number),
        block_hash=hash32(body.block_hash),
        transaction_index=quantity(body.transaction_index),
        succeeded=quantity(body.status) == 1,
        gas_used=quantity(body.gas_used),
        gas_price_wei=quantity(body.effective_gas_price, 128),
        logs=tuple(_log(log, received_ns) for log in body.logs),
    )


def read_quantity(raw: bytes | msgspec.Raw, bits: int = 64) -> int:
    """An answer that is one number, such as a nonce or a balance."""
    return quantity(_decode_text(raw), bits)


def read_data(raw: bytes | msgspec.Raw) -> bytes:
    """An answer that is bytes, such as that of `eth_call`."""
    return data(_decode_text(raw))


def request_bytes(identity: int, method: str, params: Any) -> bytes:
    """A request as it goes over the wire."""
    return msgspec.json.encode(
        {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
    )
