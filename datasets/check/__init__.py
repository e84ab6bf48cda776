"""check_dataset.py: finds everything in a data set that would spoil a training or a test.

Looks and reports; changes nothing, and training does not need it.
"""
