"""Which trials may be stopped early, and when: Optuna's pruners, whose state is in the journal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import optuna

from study.setup.spaces import Space

Scheduler = Literal["none", "asha", "hyperband", "median"]
Sampler = Literal["tpe", "gp", "cmaes", "qmc", "random"]

TRANSIT = "loss.transit_time_ratio"
REDUCTION = 3
EARLIEST_SHARE = 0.1
MEDIAN_TRIALS = 5


def grace_period(space: Space, base: Mapping[str, Any], epochs: int) -> int:
    """Epochs that every trial of a space trains at least.

    Before the transit time, progressive label correction looks like cross entropy, so a loss cannot be judged by what
    it has reached before. A space without one has a tenth of the epochs.

    Args:
        space: The space.
        base: Dotted names that every trial of the study has.
        epochs: Planned epochs.
    """
    latest = space.greatest(TRANSIT, base)
    return max(1, math.ceil((EARLIEST_SHARE if latest is None else latest) * epochs))


def make_pruner(scheduler: Scheduler, grace: int, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner of a search.

    Args:
        scheduler: ``none``; ``asha`` (asynchronous successive halving; Li et al., MLSys 2020), ``hyperband`` (several
            brackets of it; Li et al., JMLR 2018), or ``median`` (stopped if below the median of the trials before).
        grace: No trial is stopped before this epoch.
        epochs: Planned epochs.
    """
    if scheduler == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=REDUCTION)
    if scheduler == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=grace, max_resource=epochs, reduction_factor=REDUCTION)
    if scheduler == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_warmup_steps=grace)
    return optuna.pruners.NopPruner()


def warning(scheduler: Scheduler, space: Space, grace: int, epochs: int) -> str:
    """What a user must know of a scheduler on a space; empty for nothing.

    Args:
        scheduler: The scheduler.
        space: The space.
        grace: From ``grace_period``.
        epochs: Planned epochs.
    """
    if scheduler == "none":
        return ""
    # The first epoch after the grace period at which halving stops a trial is the grace period itself.
    if grace >= epochs:
        return (
            f"--scheduler {scheduler} can stop no trial of space {space.name}: its latest transit time is epoch "
            f"{grace} of {epochs}. Fix a smaller {TRANSIT} by --set, or take --scheduler none."
        )
    if scheduler != "median" and grace * REDUCTION > epochs:
        return (
            f"--scheduler {scheduler} stops trials of space {space.name} at one epoch only, {grace} of {epochs}: "
            "before it the transit time of label correction may not have come."
        )
    return ""
