"""Training on a device: its arithmetic, its memory, and the data that lie on it."""
