"""One trial: training, checkpoints, event log."""
