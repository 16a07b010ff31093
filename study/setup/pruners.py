"""Pruners that stop trials early; Optuna's, whose state is in the journal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna

from study.options import Scheduler
from study.setup.spaces import Space

# Shares of the planned steps until a loss does what it is for.
DELAYS = ("loss.transit_time_ratio", "loss.warmup_ratio")
REDUCTION = 3
EARLIEST_SHARE = 0.1
MEDIAN_TRIALS = 5


def grace_period(space: Space, defaults: Mapping[str, Any], epochs: int) -> int:
    """Return the number of epochs that every trial of a space trains at least.

    Before its transit time, progressive label correction resembles cross entropy, and in its warm-up forward correction
    is cross entropy, so the score up to then does not tell how good it is. Other spaces get a tenth of the epochs.

    Args:
        space: The search space.
        defaults: Default parameters by dotted name.
        epochs: Planned epochs of a trial.

    Example:
        >>> from study.setup.spaces import load_space
        >>> grace_period(load_space("proselflc", {}), {}, epochs=50)
        40
        >>> grace_period(load_space("cross_entropy", {}), {}, epochs=50)
        5
    """
    delays = [delay for key in DELAYS if (delay := space.largest(key, defaults)) is not None]
    return max(1, math.ceil(max(delays, default=EARLIEST_SHARE) * epochs))


def make_pruner(scheduler: Scheduler, grace: int, epochs: int) -> optuna.pruners.BasePruner:
    """Return the pruner of a search.

    Args:
        scheduler: ``none``; ``asha`` (asynchronous successive halving; Li et al., MLSys 2020); ``hyperband`` (several
            brackets of it; Li et al., JMLR 2018); or ``median`` (stops a trial below the median of earlier trials).
        grace: First epoch at which a trial may be stopped.
        epochs: Planned epochs of a trial.

    Example:
        >>> type(make_pruner("asha", grace=5, epochs=50)).__name__
        'SuccessiveHalvingPruner'
    """
    if scheduler == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=REDUCTION)
    if scheduler == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=grace, max_resource=epochs, reduction_factor=REDUCTION)
    if scheduler == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_warmup_steps=grace)
    return optuna.pruners.NopPruner()


def scheduler_warning(scheduler: Scheduler, space: Space, grace: int, epochs: int) -> str:
    """Return why a scheduler can save little or no time on a space, empty if it can.

    Args:
        scheduler: Scheduler of the study.
        space: The search space.
        grace: Epochs from ``grace_period``.
        epochs: Planned epochs of a trial.
    """
    if scheduler == "none":
        return ""
    # Halving first stops trials at the last epoch of the grace period.
    if grace >= epochs:
        return (
            f"--scheduler {scheduler} cannot stop any trial of space {space.name}: its loss resembles cross entropy "
            f"up to epoch {grace} of {epochs}. Fix a smaller {' or '.join(DELAYS)} with --set, or use --scheduler none."
        )
    if scheduler != "median" and grace * REDUCTION > epochs:
        return (
            f"--scheduler {scheduler} can stop trials of space {space.name} at one epoch only, {grace} of {epochs}, "
            f"because its loss may resemble cross entropy up to there. Fix a smaller {' or '.join(DELAYS)} with --set "
            "for more."
        )
    return ""
