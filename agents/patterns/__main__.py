"""Patterns without labels: `python -m agents.patterns`."""

import sys

from agents.patterns.kinds import main

if __name__ == "__main__":
    sys.exit(main())
