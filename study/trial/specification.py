"""The data that describe a trial: its configuration, what it shares with other trials, and the keys of its results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.config import complete
from study.schema import Keep

if TYPE_CHECKING:
    from ser.training.task import Task

# Keys of the trial's number, and of its attempt's, in the configuration that Tune hands to it.
TRIAL_KEY, ATTEMPT_KEY = "trial", "attempt"

# Further keys of that configuration, each absent unless needed: the objective that the trial has to exceed for its
# network to be kept; and whether it has finished before, and is trained again for its network alone.
EXCEED_KEY, AGAIN_KEY = "exceed", "again"

# Keys of the results that a trial reports to Tune, besides its objective. The first result of an attempt says where it
# runs, before anything can go wrong there; EVENTS are for the trial's event log.
EPOCH, DONE, FAILURE, FAILURE_FINAL, SUSPENDED = "epoch", "finished", "failure", "failure.final", "suspended"
DEVICE, EVENTS = "device", "events"

# Kinds of events; an epoch is one too.
TAGS, ARTIFACT = "tags", "artifact"


def epoch_event(epoch: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return the event of an epoch.

    Args:
        epoch: The epoch, from 1.
        metrics: What was measured.
    """
    return {"kind": EPOCH, "epoch": epoch, "metrics": dict(metrics)}


def artifact_event(name: str, content: bytes) -> dict[str, Any]:
    """Return the event of a file in the trial's folder that belongs to its records.

    Args:
        name: Name of the file.
        content: Its content, of which the event holds the SHA-256.
    """
    return {"kind": ARTIFACT, "name": name, "digest": hashlib.sha256(content).hexdigest()}


def tags_event(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the event of tags that only the trial's process knows, such as its hardware."""
    return {"kind": TAGS, "tags": dict(tags)}


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
        folder: Folder of the search, which every node sees under this path.
        planned: Specifications of trials 1, 2, … of a confirmation; empty for a search.
        import_folder: Folder that the study was started in, where losses and models of the user's own may be; empty for
            none.
        gpus: Share of a GPU that a trial has, from 0 to 1.
        keep: Networks of finished trials that stay on disk.
        mode: ``max`` or ``min``: which objective is better.
    """

    task: Task
    defaults: Mapping[str, Any]
    seed: int
    threads: int
    device: str
    objective: str
    folder: Path
    planned: tuple[TrialSpecification, ...] = ()
    import_folder: str = ""
    gpus: float = 0.0
    keep: Keep = "all"
    mode: str = "max"

    def keeps(self, objective: float, exceed: float | None) -> bool:
        """Return whether the network of a trial that has finished is to be kept, as far as the trial can know.

        Args:
            objective: Its objective.
            exceed: The best objective of the trials that had finished when it began; None without any.
        """
        if self.keep != "best":
            return self.keep == "all"
        return exceed is None or (objective > exceed if self.mode == "max" else objective < exceed)

    def trial(self, number: int, suggested: Mapping[str, Any]) -> TrialSpecification:
        """Return the specification of a trial.

        Args:
            number: Number of the trial, from 1.
            suggested: Parameters that the search suggested; ignored where the trials are planned.
        """
        if self.planned:
            return self.planned[number - 1]
        return TrialSpecification(complete(self.defaults, suggested), self.seed, self.task, {})
