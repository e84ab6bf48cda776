"""What becomes of volumes in a prediction: their maps, masks and scores.

Single images are written by ``engine.prediction_results``.
"""
