"""Search spaces: which parameters are searched and in which ranges, one file per space.

The file of a space defines

* ``SPACE``, a dict from dotted configuration names to Ray Tune domains or constants, or for a conditional space a
  define-by-run function ``trial -> dict``, which suggests values with Optuna's interface and returns constants;
* ``POINTS``, a list of configurations that are tried first, the published defaults; each names every searched key, with
  a value in its range;
* a docstring that cites the sources, the main one in its first line.

Domains are ``tune.choice``, ``uniform``, ``loguniform``, ``quniform``, ``randint``, ``qrandint`` and ``lograndint``.
Choices and constants are numbers, texts, booleans or None.

A function may raise ``optuna.TrialPruned`` for a combination of values that is not wanted. Such a suggestion is not a
trial: another one is drawn, up to a thousand times, the first ten by the sampler and the rest at random. A space from
which nothing is drawn so ends with an error. The sampler does not learn from what was not wanted. No point may be.

Before a study starts, the points and random samples are built. Where the function raises something else later on, that
trial fails with the reason, and the study continues.

A study records the content of its spaces: ranges, constants and points, for a function what random samples show. A
study resumes with spaces of the same content only; ``--widen`` admits ranges that include the former ones.
"""

from collections.abc import Mapping
from typing import Any

import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Domain, LogUniform, Quantized

# Every space includes these, so that all losses are compared under the same conditions.
OPTIMIZER = {
    "optimizer.lr": tune.loguniform(3e-4, 1e-2),
    "optimizer.weight_decay": tune.loguniform(1e-4, 1e-1),
}
OPTIMIZER_POINT = {"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-2}


def distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    """Convert a Ray Tune domain into an Optuna distribution.

    Args:
        domain: A choice, or a uniform or log-uniform range of floats or integers, with steps where it is uniform.

    Raises:
        ValueError: Optuna has no such distribution.

    Example:
        >>> distribution(tune.quniform(0.4, 1.0, 0.1))
        FloatDistribution(high=1.0, log=False, low=0.4, step=0.1)
    """
    sampler = domain.get_sampler()
    if isinstance(sampler, Quantized) and isinstance(sampler.get_sampler(), LogUniform):
        raise ValueError("a logarithmic range has no steps")
    found: optuna.distributions.BaseDistribution = OptunaSearch.convert_search_space({"domain": domain})["domain"]
    return found


def suggest(trial: optuna.Trial, space: Mapping[str, Any]) -> dict[str, Any]:
    """Suggest a value for each domain of a space, within a conditional space.

    Args:
        trial: Optuna's trial.
        space: Dotted names with Ray Tune domains or constants.

    Returns:
        All values and constants by dotted name.

    Raises:
        ValueError: Optuna has no such distribution.
    """
    return {key: _suggest(trial, key, value) if isinstance(value, Domain) else value for key, value in space.items()}


def _suggest(trial: optuna.Trial, key: str, domain: Domain) -> Any:
    found = distribution(domain)
    if isinstance(found, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(key, found.choices)
    if isinstance(found, optuna.distributions.IntDistribution):
        return trial.suggest_int(key, found.low, found.high, step=found.step, log=found.log)
    assert isinstance(found, optuna.distributions.FloatDistribution)
    return trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)
