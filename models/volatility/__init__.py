"""Volatility forecasts: the HAR-LSTM and every baseline, their evaluation, and the command
`python -m models.volatility`.
"""
