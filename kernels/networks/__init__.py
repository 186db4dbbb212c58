"""Frozen networks and what feeds them: the forward pass of a policy (`forward`), the volatility
forecaster (`forecast`), its inputs (`features`) and hidden regimes.
"""
