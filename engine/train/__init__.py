"""Training: a run is built (start), its epochs are trained, validated and saved (loop).

Nothing here decides how an image is scored; validation asks engine.evaluate.
"""
