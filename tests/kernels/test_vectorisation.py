"""LLVM's own remarks say that the hot loops are vectorised; a source change that stops it fails."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba import njit, types

from kernels.market.sizing import size_cycles

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import importlib
import sys

import llvmlite.binding as llvm
from numba import njit, types

for switch in ("-pass-remarks", "-pass-remarks-missed", "-pass-remarks-analysis"):
    llvm.set_option("", f"{switch}=loop-vectorize")
module, name, *arrays = sys.argv[1:]
kinds = {"f": types.float64, "i": types.int64}
kernel = getattr(importlib.import_module(module), name)
if not hasattr(kernel, "compile"):
    kernel = kernel.__wrapped__  # behind the check of its arrays
kernel.compile(tuple(types.Array(kinds[a[0]], int(a[1]), "C") for a in arrays))
"""

# (module, kernel, dtype and dimensions of its arrays, loops that must be vectorised)
HOT_LOOPS = [
    ("kernels.pools.product_filter", "rank_product_outputs", ["f1"] * 5, 1),
    ("kernels.pools.product_filter", "rank_weighted_outputs", ["f1"] * 6, 1),
    ("kernels.pools.product_filter", "rank_stable_outputs", ["f1"] * 8, 1),
    ("kernels.pools.uniswap_v3.float_filter", "rank_outputs", ["f1"] * 5, 1),
]


def widths(folder: Path, arguments: list[str]) -> tuple[list[int], str]:
    """Vector widths that LLVM reports while it compiles a kernel afresh, and all it said."""
    paths = os.pathsep.join((str(ROOT), str(folder)))
    settings = {"NUMBA_CACHE_DIR": str(folder), "MEVRL_BOUNDSCHECK": "0", "PYTHONPATH": paths}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    said = finished.stdout + finished.stderr
    found = re.findall(r"remark:.* vectorized loop \(vectorization width: (\d+)", said)
    return [int(width) for width in found], said


@pytest.mark.parametrize(("module", "name", "arrays", "loops"), HOT_LOOPS)
def test_hot_loops_are_vectorised(
    tmp_path: Path, module: str, name: str, arrays: list[str], loops: int
) -> None:
    found, said = widths(tmp_path, [module, name, *arrays])
    assert len(found) >= loops, said
    assert min(found) >= 2, said


def test_lane_vectors_become_vector_instructions() -> None:
    """Eight lanes divide together: packed instructions, or kernels.numbers.lanes would be
    pointless."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("reads x86 instructions")
    compiled: Any = size_cycles
    # Compiled afresh: of cached code Numba has no assembly to show.
    kernel = njit(error_model="numpy", nogil=True)(compiled.py_func)
    kinds = types.Array(types.int64, 2, "C"), types.Array(types.float64, 1, "C")
    kernel.compile((*kinds, types.Array(types.float64, 2, "C")))
    text = "".join(kernel.inspect_asm().values())
    for instruction in ("sqrtpd", "divpd", "mulpd"):
        assert len(re.findall(rf"\bv?{instruction}\b", text)) >= 2, instruction


def test_the_remarks_tell_a_loop_that_is_not(tmp_path: Path) -> None:
    """The gate itself: a sum in fixed order cannot be vectorised, and is not reported so."""
    (tmp_path / "in_order.py").write_text(
        "from kernels.compile import kernel\n\n\n@kernel\n"
        "def total(values):\n    x = 0.0\n    for v in values:\n"
        "        x = x * 0.5 + v\n    return x\n"
    )
    found, said = widths(tmp_path, ["in_order", "total", "f1"])
    assert found == []
    assert "loop not vectorized" in said
