"""Calldata for the contracts of the local chain, from their ABI (Solidity ABI specification)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector

from devnet.artifacts import artifact


@cache
def _function(contract: str, name: str) -> tuple[bytes, tuple[str, ...], tuple[str, ...]]:
    """Selector, input types and output types; the name must not be overloaded."""
    entries = [
        entry
        for entry in artifact(contract).abi
        if entry.get("type") == "function" and entry["name"] == name
    ]
    if len(entries) != 1:
        raise ValueError(f"{contract} has {len(entries)} functions named {name!r}, expected 1")
    entry: Any = entries[0]
    inputs, outputs = (
        tuple(collapse_if_tuple(parameter) for parameter in entry[side])
        for side in ("inputs", "outputs")
    )
    return bytes(function_abi_to_4byte_selector(entry)), inputs, outputs


def call_data(contract: str, function: str, *arguments: Any) -> bytes:
    """Selector and encoded arguments of `contract.function(*arguments)`; addresses are hex text."""
    selector, inputs, _ = _function(contract, function)
    return selector + encode(inputs, arguments)


def decode_result(contract: str, function: str, data: bytes) -> tuple[Any, ...]:
    """Return values of `contract.function` from the bytes that a call returned."""
    return decode(_function(contract, function)[2], data)


def creation_code(contract: str, *arguments: Any) -> bytes:
    """Bytecode of `contract` followed by its encoded constructor arguments."""
    definition = artifact(contract)
    entries: Sequence[Any] = [e for e in definition.abi if e.get("type") == "constructor"]
    types = [collapse_if_tuple(p) for entry in entries for p in entry["inputs"]]
    if len(types) != len(arguments):
        raise ValueError(f"{contract} takes {len(types)} constructor arguments: {types}")
    return definition.bytecode + encode(types, arguments)
