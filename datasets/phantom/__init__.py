"""Synthetic head phantoms for the demo and the tests: drawn, then written as a data set.

Nothing else may depend on it.
"""
