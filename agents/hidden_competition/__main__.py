"""The hidden-competition study: `python -m agents.hidden_competition`."""

from terminal import begin, ended

if __name__ == "__main__":
    begin("agents.hidden_competition")  # before the heavy imports: they take seconds


from agents.hidden_competition.command import main

if __name__ == "__main__":
    ended("agents.hidden_competition", main)
