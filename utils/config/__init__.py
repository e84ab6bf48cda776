"""INI files to one validated config object, and back: every key is defined once, in the schema.

Keys that a file leaves out are derived; rules compare keys with keys and with the backbones'
geometry. Anything that needs a file or a weight is checked in engine.
"""
