"""The training, scoring and prediction loops, score reductions and streaming metrics."""
