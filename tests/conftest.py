"""What every test shares: the import path to `tests.referee`, and the settings of Hypothesis."""

import sys
from pathlib import Path

from hypothesis import settings

# `python -m pytest` finds the checkout by itself, plain `pytest` does not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# A deadline would time the machine, and the first call of a kernel compiles it.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
