"""Files on disk to batches of tensors. Knows no models.

Here stand the samples' data sets, transforms, kept images and the liver's preprocessing; what lies
where is in folders, how a file is read in readers, what may be wrong in check.
"""
