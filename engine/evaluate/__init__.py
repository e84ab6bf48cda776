"""Scores and maps of a whole split; threshold and colour scale, learnt on validation images.

Every score of the program comes from here. No metrics, no pages, no training mode.
"""
