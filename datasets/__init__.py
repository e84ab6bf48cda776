"""Files on disk to tensors. Knows no models."""
