"""One trial: training, checkpoints, reports."""
