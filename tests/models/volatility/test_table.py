"""The forecast report in a terminal of 80 columns."""

import io
from typing import Any

import pytest
from rich.console import Console

from models.volatility.evaluation import POOLED
from models.volatility.table import markdown_report, print_report

MODELS = ("HAR-LSTM", "HARQ", "HAR log", "EWMA 0.94", "GARCH(1,1)", "GJR-GARCH", "random walk")


def report(refits: int) -> dict[str, Any]:
    def row(horizon: int, symbol: str) -> dict[str, Any]:
        return {
            "horizon_minutes": horizon,
            "symbol": symbol,
            "origins": 104_123,
            "qlike": dict.fromkeys(MODELS, 0.1234),
            "mse_log": dict.fromkeys(MODELS, 0.456),
            "dm_p": dict.fromkeys(MODELS, 0.0001),
            "mcs_p": dict.fromkeys(MODELS, 0.55),
            "ratio": (0.951, 0.940, 0.962),
            "strongest_linear": "random walk",
            "single_networks": [0.1, 0.11],
            "stretches": [{"ratio": 0.877}] * refits,
        }

    return {
        "rows": [row(h, s) for h in (5, 60) for s in ("BTCUSDT", "ETHUSDT", POOLED)],
        "refits": ["2025-01-01"] * refits,
        "source": "bars.parquet",
        "test_from": "2025-01-01",
        "test_until": "2025-02-01",
        "skipped_horizons_minutes": [],
        "untested_symbols": [],
        "bar_minutes": 1,
    }


@pytest.mark.parametrize("refits", [1, 3, 20])
def test_no_number_is_cut_at_80_columns(refits: int) -> None:
    file = io.StringIO()
    print_report(report(refits), Console(file=file, width=80))
    told = file.getvalue()
    assert "…" not in told
    assert told.count("0.877") == (6 * refits if refits > 1 else 0)
    assert told.count("0.940-0.962") == 6
    assert told.count("0.810-0.891") == 6
    assert markdown_report(report(refits)).count("0.810-0.891") == 6
