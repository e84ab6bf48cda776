"""A trained model as one ONNX file that accepts images of any size.

Writes the file and checks it against prediction. Knows nothing of training, tests and reports.
"""
