"""What may vary: one small file for each space.

A space has ``SPACE``, a dict of dotted configuration names to Ray Tune domains or constants (or a module-level
define-by-run function ``trial -> dict`` for conditional spaces), ``POINTS``, the published defaults, which are tried
first and name every searched key, and a docstring that cites its sources, the main one in its first line.
"""

from ray import tune

# The optimiser's part of every space, so that no loss is compared under better conditions than another.
OPTIMIZER = {
    "optimizer.lr": tune.loguniform(3e-4, 1e-2),
    "optimizer.weight_decay": tune.loguniform(1e-4, 1e-1),
}
OPTIMIZER_POINT = {"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-2}
