"""Which files belong to a split, as images of which label and with which masks.

Reads headers at most; pixels belong to datasets.readers.
"""
