"""Scores and labels, maps and masks to metrics: streamed counts, curves, bootstrap intervals.

Arrays in, numbers out: no model, no files, no device.
"""
