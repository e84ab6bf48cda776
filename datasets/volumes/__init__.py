"""Volumes: which DICOM files are one, where voxels lie in millimetres, how maps are written.

Pixels are read in `readers/`; what a slice scores is not known here.
"""
