"""INI files to one validated config object, and back: every key stands once, in the schema.

What a file leaves out is derived; rules compare keys with keys and with the backbones' geometry.
What needs a file or a weight is checked in engine.
"""
