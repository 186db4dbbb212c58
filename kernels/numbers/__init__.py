"""Numbers wider or more exact than a machine word: 128 to 512-bit integers (`u256`), checked and
fixed-point arithmetic, double-double floats, and vectors of eight markets (`lanes`).
"""
