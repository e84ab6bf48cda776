"""A trained model as one ONNX file that takes pictures as they are.

Writes the file and checks it against prediction. Knows nothing of training, tests and reports.
"""
