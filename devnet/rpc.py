"""A small blocking JSON-RPC client over HTTP for the programs that build and populate the chain.
The server under test has its own; nothing is shared, so neither can hide the other's faults."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any

TIMEOUT_S = 30.0


class RpcError(RuntimeError):
    """The node answered with an error, or not at all; the message names the method."""


class Rpc:
    """One keep-alive connection to a node; not shared between threads."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"url is {url!r}: give an http address such as http://127.0.0.1:8545")
        self.url = url
        self._path = parts.path or "/"
        self._connection = http.client.HTTPConnection(
            parts.hostname, parts.port or 80, timeout=timeout_s
        )

    def call(self, method: str, *params: Any) -> Any:
        """Result of one request; RpcError when the node refuses or does not answer."""
        return self.batch([(method, params)])[0]

    def batch(self, requests: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Results of many requests in one message, in the order asked; the first error raises."""
        results = self.try_batch(requests)
        for (method, _), result in zip(requests, results, strict=True):
            if isinstance(result, RpcError):
                raise RpcError(f"{method}: {result}")
        return results

    def try_batch(self, requests: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """As `batch`, with an RpcError in the place of each refused request."""
        if not requests:
            return []
        body = [
            {"jsonrpc": "2.0", "id": index, "method": method, "params": params}
            for index, (method, params) in enumerate(requests)
        ]
        answers = self._post(requests[0][0], body)
        results: list[Any] = [RpcError("no answer in the batch")] * len(requests)
        for answer in answers:
            fault = answer.get("error")
            results[answer["id"]] = (
                RpcError(f"{fault.get('message')} (code {fault.get('code')})")
                if fault
                else answer.get("result")
            )
        return results

    def _post(self, method: str, body: list[dict[str, Any]]) -> list[dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        try:
            self._connection.request("POST", self._path, json.dumps(body), headers)
            answers = json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()  # the next request opens it again
            raise RpcError(f"{method}: no answer from {self.url}: {error!r}") from error
        if not isinstance(answers, list):
            raise RpcError(f"{method}: {self.url} answered a batch with {str(answers)[:200]}")
        return answers

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
