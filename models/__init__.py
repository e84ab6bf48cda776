"""Modules, distances and criteria: tensors in, tensors out.

Gets numbers, never a config. Knows no files, no logging, no argparse.
"""
