"""A kernel answers alike from Python and from another kernel, whichever asked first."""

import subprocess
import sys

import pytest

# In a process of its own: a wrong form ends with a signal. `first` names who asks first.
CALLS = """
import sys
from kernels.compile import inline, kernel, never_inline

@kernel
def scaled(x, by):
    never_inline()
    return x * by

@inline
def shifted(x, by):
    return x + by

@kernel
def both(x):
    return scaled(x, 2) + scaled(x, 3) + shifted(x, 5) + shifted(x, 7)

order = [lambda: both(1), lambda: scaled(4, 5), lambda: shifted(4, 5)]
answers = [call() for call in (order if sys.argv[1] == "kernel" else order[::-1])]
answers = answers if sys.argv[1] == "kernel" else answers[::-1]
print(answers, len(scaled.inner_form.overloads))
"""


@pytest.mark.parametrize("first", ["kernel", "python"])
def test_both_forms_answer(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLS, first], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # 1*2 + 1*3 + 1+5 + 1+7 = 19; the numbers 2 and 3 share one compiled version.
    assert done.stdout.split() == ["[19,", "20,", "9]", "1"]
