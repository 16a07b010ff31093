"""Search spaces: which parameters are searched and in which ranges, one file per space.

The file of a space defines

* ``SPACE``, a dict from dotted configuration names to Ray Tune domains or constants, or for a conditional space a
  define-by-run function ``trial -> dict``, which suggests values with Optuna's interface and returns constants;
* ``POINTS``, a list of configurations that are tried first, the published defaults; each names every searched key;
* a docstring that cites the sources, the main one in its first line.
"""

from collections.abc import Mapping
from typing import Any

import optuna
from ray import tune
from ray.tune.search.sample import Categorical, LogUniform, Quantized

# Every space includes these, so that all losses are compared under the same conditions.
OPTIMIZER = {
    "optimizer.lr": tune.loguniform(3e-4, 1e-2),
    "optimizer.weight_decay": tune.loguniform(1e-4, 1e-1),
}
OPTIMIZER_POINT = {"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-2}


def suggest(trial: optuna.Trial, space: Mapping[str, Any]) -> dict[str, Any]:
    """Suggest a value for each domain of a space, within a conditional space.

    Args:
        trial: Optuna's trial.
        space: Dotted names with Ray Tune domains (choices and floats) or constants.

    Returns:
        All values and constants by dotted name.
    """
    values = {}
    for key, domain in space.items():
        sampler = getattr(domain, "sampler", None)
        if sampler is None:
            values[key] = domain
        elif isinstance(domain, Categorical):
            values[key] = trial.suggest_categorical(key, domain.categories)
        else:
            step = sampler.q if isinstance(sampler, Quantized) else None
            log = isinstance(sampler, LogUniform)
            values[key] = trial.suggest_float(key, domain.lower, domain.upper, step=step, log=log)
    return values
