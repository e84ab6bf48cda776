"""A whole split to scores and maps, and what validation images teach: threshold, colour scale.

Every score of the program comes from here. No metrics, no pages, no training mode.
"""
