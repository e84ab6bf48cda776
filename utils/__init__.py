"""What all of the above share: errors, files, checkpoints, weights, the console.

Imports nothing of this project but itself; no model, no data set.
"""
