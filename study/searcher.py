"""Optuna behind Ray Tune, with what a reproducible study needs on top."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
from ray import cloudpickle
from ray.tune.search.optuna import OptunaSearch

from study.records import Selection
from study.spaces import Space

TRIAL_KEY = "trial"


def trial_name(number: int) -> str:
    """A trial's number as it is written in the records."""
    return f"{number:03d}"


class StudySearch(OptunaSearch):  # type: ignore[misc]
    """Seeded TPE over a space, published points first; every configuration carries its number and the constants.

    The whole state, sampler included, is pickled by Tune with its own, so that a restored search goes on as it would
    have.

    Args:
        space: What to sample from.
        selection: Metric and direction.
        seed: Seed of the sampler.
    """

    def __init__(self, space: Space, selection: Selection, seed: int) -> None:
        self._constants = dict(space.constants)
        self._issued = 0
        super().__init__(
            # OptunaSearch takes an empty dict for "no space yet"; a function that draws nothing says it right.
            space=space.domains or _nothing,
            metric=selection.metric,
            mode=selection.mode,
            points_to_evaluate=[dict(point) for point in space.points] if space.domains else None,
            sampler=optuna.samplers.TPESampler(seed=seed),
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration's dotted names, with its number (from 1) under ``trial``."""
        suggested = super().suggest(trial_id)
        if suggested is None:
            return None
        self._issued += 1
        return {**suggested, **self._constants, TRIAL_KEY: self._issued}

    def save(self, checkpoint_path: str) -> None:
        """Writes the state; by value, for a space of one's own may be a function in a file that is no module."""
        Path(checkpoint_path).write_bytes(cloudpickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        """Reads the state that ``save`` wrote."""
        self.__dict__.update(cloudpickle.loads(Path(checkpoint_path).read_bytes()))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna; a score that is not a number counts as a failure, which Optuna would leave running."""
        if result is not None and not math.isfinite(result.get(self.metric, math.nan)):
            result, error = None, True
        super().on_trial_complete(trial_id, result, error)


def _nothing(trial: optuna.Trial) -> dict[str, Any]:
    return {}
