"""Bidders that do not learn: fixed rules (`baselines`), rules that adapt (`adaptive`), and the arms
of a comparison (`arms`).
"""
