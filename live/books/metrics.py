"""Counters and latencies of a server, and the report made of them (keys fixed in the design)."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

KEPT_SAMPLES = 1 << 16  # quantiles are those of the last 65,536 samples, count and max of all

# Stages of the hot path, in order; `frame_to_signed` spans them all up to the signature.
STAGES = (
    "decode",
    "overlay",
    "find",
    "policy",
    "refine",
    "sign",
    "frame_to_signed",
    "journal",
    "submit",
    "frame_to_sent",
    "head_to_state",
    "head_to_signed",
)


class Latency:
    """Durations in nanoseconds: count, maximum and the latest samples."""

    def __init__(self) -> None:
        self._samples = np.zeros(KEPT_SAMPLES, np.int64)
        self.count = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Note one duration."""
        self._samples[self.count % KEPT_SAMPLES] = duration_ns
        self.count += 1
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns

    def summary_us(self) -> dict[str, float | int]:
        """p50, p99 and max in microseconds, and how many there were."""
        if self.count == 0:
            return {"p50": 0.0, "p99": 0.0, "max": 0.0, "n": 0}
        kept = self._samples[: min(self.count, KEPT_SAMPLES)]
        p50, p99 = np.percentile(kept, (50, 99)) / 1e3
        return {
            "p50": round(float(p50), 1),
            "p99": round(float(p99), 1),
            "max": round(self.max_ns / 1e3, 1),
            "n": self.count,
        }


class Metrics:
    """What happened since the start. Amounts are wei."""

    def __init__(self) -> None:
        self.heads = 0
        self.pending_seen = 0
        self.pending_relevant = 0
        self.opportunities = 0
        self.decisions = 0
        self.plans = 0
        self.bundles_sent = 0
        self.replacements = 0
        self.cancellations = 0
        self.refused = 0
        self.included = 0
        self.failed = 0
        self.unchallenged = 0
        self.unchallenged_violations = 0
        self.realised_profit_wei = 0
        self.expected_profit_wei = 0
        self.bids_paid_wei = 0
        self.gas_spent_wei = 0
        self.executor_balance_change_wei = 0
        self.state_mismatches = 0
        self.states_compared = 0
        self.balance_mismatches = 0
        self.unknown_events = 0
        self.reorgs_handled = 0
        self.recovered = 0
        self.lost_by_reason: Counter[str] = Counter()
        self.latency: dict[str, Latency] = {stage: Latency() for stage in STAGES}

    def time(self, stage: str, duration_ns: int) -> None:
        """Note how long a stage took."""
        self.latency[stage].add(duration_ns)


def write_report(path: Path, content: dict[str, Any]) -> None:
    """Write JSON to a temporary name beside `path`, then rename: never half a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
