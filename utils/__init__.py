"""Shared by all other packages: errors, files, checkpoints, weights, the console.

Imports nothing else of this project; no model, no data set.
"""
