"""From a config to a trained, tested, used model: what the scripts call.

Here stand what all of it shares (device, model, run folder) and the commands on top of it: test and
predict. No maths of the model, no reading of files.
"""
