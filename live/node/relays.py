"""Where a signed plan goes. The one way so far is the node's own transaction pool; a relay with
bundles and revert protection has the same shape: bytes in, an answer later.
"""

from __future__ import annotations

from live.node.rpc import Node, OnAnswer
from live.node.signer import SignedTransaction


class PublicPool:
    """Hands transactions to the node (`eth_sendRawTransaction`), on the connection of the feed."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def submit(self, signed: SignedTransaction, on_answer: OnAnswer) -> None:
        """Send now; `on_answer` is called once, with a fault when the node refused it."""
        self._node.send("eth_sendRawTransaction", ("0x" + signed.raw.hex(),), on_answer)
