"""One file to the pixels of one image or mask: pictures, TIFF, DICOM, NIfTI.

``image`` is the way in. Knows no splits, no labels, no tensors.
"""
