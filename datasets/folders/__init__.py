"""Which files are which images of which split: every layout of folders, labels, masks' names.

Reads headers at most; pixels belong to datasets.readers.
"""
