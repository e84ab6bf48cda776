"""Modules and criteria: tensors in, tensors out. Knows no files, no logging, no argparse."""
