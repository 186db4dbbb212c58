"""Rules of the chain itself: gas prices and the EIP-1559 base fee (`fees`), the sealed-bid auction
of a builder (`auction`).
"""
