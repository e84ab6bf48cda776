"""Testing: every image of a test set scored, measured, and the files that say so.

Maps become scores in `evaluate/`; the report is drawn in `report/`.
"""
