"""Frame-to-signed latency of serve.py on the local chain, with the policy trained last."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import CheckFailedError, Measurement, check

ROOT = Path(__file__).resolve().parents[1]
POLICY = ROOT / "runs" / "latest" / "policy"
STAGES = ("frame_to_signed", "decode", "overlay", "find", "policy", "refine", "sign", "journal")


def served(seconds: int) -> dict:
    """The report of a run of `seconds` on a fresh local chain."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, str(ROOT / "serve.py"), f"--duration={seconds}"]
        command += [f"--report={path}", f"--policy={POLICY}", f"--state_dir={folder}"]
        finished = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 300, check=False
        )
        check(finished.returncode == 0, f"serve.py failed: {finished.stderr[-500:]}")
        return json.loads(path.read_text())


def run(quick: bool) -> list[Measurement]:
    """Checks the books of the run, then reports its latencies."""
    if not POLICY.is_dir():
        raise CheckFailedError(f"{POLICY.relative_to(ROOT)} is missing: run python train.py first")
    report = served(30 if quick else 90)
    check(report["state_mismatches"] == 0, "the pool state differed from the contracts")
    check(
        report["realised_profit_wei"] == report["executor_balance_change_wei"],
        "realised profit differs from the executor's balance change",
    )
    check(report["included"] > 0, "no arbitrage was included")
    rows = [
        Measurement("included", report["included"], "plans", f"{report['seconds']:.0f} s"),
        Measurement("realised profit", report["realised_profit_wei"] / 1e18, "ETH"),
    ]
    for stage in STAGES:
        figures = report["latency_us"].get(stage)
        if figures:
            for quantile in ("p50", "p99"):
                note = f"n = {figures['n']}"
                rows.append(Measurement(f"{stage} {quantile}", figures[quantile], "us", note))
    return rows
