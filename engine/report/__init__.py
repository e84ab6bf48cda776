"""What people look at: report.html and its charts and pictures.

Gets scores, metrics and finished pictures; never sees a model and computes no metric.
"""
