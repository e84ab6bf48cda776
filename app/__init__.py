"""The page of run_app.py: pictures and volumes in a browser, on your own machine.

Of the engine it knows the Predictor and the colours of maps; it computes no score itself.
"""
