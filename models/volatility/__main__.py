"""Trains or evaluates the volatility forecaster: `python -m models.volatility evaluate`."""

import sys

from models.volatility.train import main

if __name__ == "__main__":
    sys.exit(main())
