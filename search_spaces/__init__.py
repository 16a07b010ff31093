"""Search spaces: which parameters are searched and in which ranges, one file per space.

The file of a space defines

* ``SPACE``, a dict from dotted configuration names to Ray Tune domains or constants, or for a conditional space a
  define-by-run function ``trial -> dict``, which suggests values with Optuna's interface and returns constants;
* ``POINTS``, a list of configurations that are tried first, the published defaults; each names every searched key;
* a docstring that cites the sources, the main one in its first line.
"""

from ray import tune

# Every space includes these, so that all losses are compared under the same conditions.
OPTIMIZER = {
    "optimizer.lr": tune.loguniform(3e-4, 1e-2),
    "optimizer.weight_decay": tune.loguniform(1e-4, 1e-1),
}
OPTIMIZER_POINT = {"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-2}
