"""The one mean and deviation that all images are normalised with, on intensities in [0, 1]."""

PIXEL_MEAN = 0.449
PIXEL_STD = 0.226
