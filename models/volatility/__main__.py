"""Trains or evaluates the volatility forecaster: `python -m models.volatility evaluate`."""

from terminal import begin, ended

if __name__ == "__main__":
    begin("models.volatility")  # before the heavy imports: they take seconds


from models.volatility.train import main

if __name__ == "__main__":
    ended("models.volatility", main)
