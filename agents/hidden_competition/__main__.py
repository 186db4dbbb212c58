"""The hidden-competition study: `python -m agents.hidden_competition`."""

import sys

from agents.hidden_competition.command import main

if __name__ == "__main__":
    sys.exit(main())
