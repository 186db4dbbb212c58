"""The networks that choose: masked perceptron, masked LSTM, the sets of masks, and the export of a
frozen policy.
"""
