"""Files on disk to batches of tensors. Knows no models.

Data sets, transforms, the image cache and the liver preprocessing. folders/ finds files, readers/
reads them, volumes/ puts slices together, check/ looks for problems.
"""
