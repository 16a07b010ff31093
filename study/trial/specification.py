"""The data that describe a trial: its configuration, what it shares with other trials, and the keys of its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser.training.task import Task

# Key of the trial's number in the configuration that Tune hands to it.
TRIAL_KEY = "trial"

# Keys of the results that a trial reports to Tune, besides its objective.
EPOCH, DONE, FAILURE, FAILURE_FINAL, SUSPENDED = "epoch", "finished", "failure", "failure.final", "suspended"


def trial_name(number: int) -> str:
    """Return a trial's number as written in the records and in the name of its folder."""
    return f"{number:03d}"


def trial_folder(search: Path, number: int) -> Path:
    """Return the folder of a trial.

    Args:
        search: Folder of the search.
        number: Number of the trial, from 1.
    """
    return search / f"trial_{trial_name(number)}"


@dataclass(frozen=True)
class TrialSpecification:
    """Everything that one trial is to train.

    Args:
        configuration: Parameters by dotted name.
        seed: Training seed.
        task: Data to train, validate and, in a confirmation, test on.
        tags: MLflow tags of this trial alone.
    """

    configuration: Mapping[str, Any]
    seed: int
    task: Task
    tags: Mapping[str, str]


@dataclass(frozen=True)
class TrialContext:
    """Context that all trials of one search (a space at a noise level) share.

    Args:
        task: Train and validation data.
        defaults: Default parameters by dotted name; the configuration of a trial overrides them.
        seed: Training seed.
        threads: Torch threads of a trial.
        device: ``"cuda"`` where a trial has a GPU or a share of one, else ``"cpu"``.
        objective: Metric that the search maximises or minimises.
        experiment: MLflow experiment id.
        parent: MLflow id of the parent run.
        name: Name of the trials without their number.
        key: Tags that identify a trial together with its number.
        tags: All other tags.
        dataset: Training data as a dictionary of an MLflow dataset.
        folder: Folder of the search, which every node sees under this path.
        session: Identifier of this start of the study.
        planned: Specifications of trials 1, 2, … of a confirmation; empty for a search.
        import_folder: Folder that the study was started in, where losses and models of the user's own may be; empty for
            none.
    """

    task: Task
    defaults: Mapping[str, Any]
    seed: int
    threads: int
    device: str
    objective: str
    experiment: str
    parent: str
    name: str
    key: Mapping[str, str]
    tags: Mapping[str, str]
    dataset: Mapping[str, Any]
    folder: Path
    session: str
    planned: tuple[TrialSpecification, ...] = ()
    import_folder: str = ""

    def trial(self, number: int, suggested: Mapping[str, Any]) -> TrialSpecification:
        """Return the specification of a trial.

        Args:
            number: Number of the trial, from 1.
            suggested: Parameters that the search suggested; ignored where the trials are planned.
        """
        if self.planned:
            return self.planned[number - 1]
        return TrialSpecification({**self.defaults, **suggested}, self.seed, self.task, {})
