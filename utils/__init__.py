"""What the rooms above share: config, checkpoints, logging, plots, reports."""
