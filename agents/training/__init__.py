"""One training as a Ray Tune trial: what it does, checkpoints, TensorBoard, compilation."""
