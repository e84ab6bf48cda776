"""From a config to a trained, tested, used model: what the scripts call.

This level has what all of it shares (model, run folder, snapshot of the config) and the Python
interface. No maths of the model, no reading of files.
"""
