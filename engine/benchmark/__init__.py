"""Several configs and seeds: each trained and tested by the scripts, all metrics in one table.

Starts the scripts as processes of their own; knows no tensors.
"""
