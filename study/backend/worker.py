"""What a worker of this machine's own Ray imports before it is asked for anything (``study/backend/cluster.py``)."""

import gc

# The collector would go over everything that is imported, again and again: a quarter of the time.
gc.disable()

import study.trial.trainable  # noqa: E402, F401

# Nor need it look at all that later on, or when the process ends.
gc.freeze()
gc.enable()
