"""Where models run: device, precision, and the processes that share the work.

One process does without Lightning Fabric, whose import costs every user of a predictor.
"""
