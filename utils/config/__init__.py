"""INI files to one validated config object, and back: every key stands once, in the schema.

Rules compare keys with keys; what needs a backbone or a file is checked in engine.
"""
