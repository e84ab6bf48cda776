"""Prediction: files without labels to tables, maps, overlays, volumes and a report.

The same from Python, without files, is `engine/predictor.py`. Maps become scores in `evaluate/`.
"""
