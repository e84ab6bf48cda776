"""check_dataset.py: everything about a data set that would spoil a training or a test.

Looks and reports; changes nothing, and training does not need it.
"""
