"""Every arm on held-out episodes: `python -m agents.evaluate --policy DIR`."""

import sys

from agents.evaluate.comparison import main

if __name__ == "__main__":
    sys.exit(main())
