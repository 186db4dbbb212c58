"""Every arm on held-out episodes: `python -m agents.evaluate --policy DIR`."""

from terminal import begin, ended

if __name__ == "__main__":
    begin("agents.evaluate")

from agents.evaluate.comparison import main

if __name__ == "__main__":
    ended("agents.evaluate", main)
