"""A study that can start: what is searched, on which data, and where its records go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient

from ser.corpora import Corpus
from ser.features.store import FeatureStore
from ser.labels import CONSENSUS
from ser.labels.training_labels import labels_line
from ser.splits import Fold
from ser.training.task import Task
from ser.utils.hashing import digest
from study.options import StudyOptions
from study.schema import SEARCH, SELECTIONS, Selection
from study.setup.design import Design
from study.setup.spaces import Space
from study.trial.specification import TrialSpecification


@dataclass(frozen=True)
class Search:
    """The search of one space at one noise level.

    Args:
        space: What is searched.
        searched: Its searched keys.
        level: Noise level, by its name for records.
        task: Train and validation data at that level.
        planned: Its trials in a confirmation, which are known beforehand; empty in a search, which suggests them.
    """

    space: Space
    searched: tuple[str, ...]
    level: str
    task: Task
    planned: tuple[TrialSpecification, ...] = ()

    def trials(self, options: StudyOptions) -> int:
        """Return the number of planned trials."""
        return len(self.planned) or options.planned_trials

    @property
    def title(self) -> str:
        """Return space and noise level, for people."""
        return f"{self.space.name} {self.level}"

    @property
    def folder(self) -> str:
        """Return space and noise level, as a folder's name."""
        return search_folder(self.space.name, self.level)


def search_folder(space: str, level: str) -> str:
    """Return the name of a search's folder.

    Example:
        >>> search_folder("elr", "symmetric:0.3")
        'elr--symmetric-0.3'
    """
    return f"{space}--{level.replace(':', '-')}"


@dataclass(frozen=True)
class StudyData:
    """The data of a study.

    Args:
        corpus: Without what was excluded.
        fold: The fold that the study holds out.
        digest: Of the corpus and of the noise levels' own files.
        stores: The open feature stores, by the name of their front end.
        seconds: Time that opening or building the stores took.
        other_stores: Feature stores of the other corpora that a confirmation is tested on.
    """

    corpus: Corpus
    fold: Fold
    digest: str
    stores: Mapping[str, FeatureStore]
    seconds: float
    other_stores: tuple[FeatureStore, ...] = ()

    @property
    def all_stores(self) -> tuple[FeatureStore, ...]:
        """Return the feature stores of the corpus and of other ones."""
        return (*self.stores.values(), *self.other_stores)

    @property
    def store(self) -> FeatureStore:
        """Return the feature store of the first space."""
        return next(iter(self.stores.values()))

    @property
    def audio_digest(self) -> str:
        """Return the digest of the decoded audio that the first space's front end has read."""
        return digest([self.store.front_end.name, list(map(str, self.store.content))])


@dataclass(frozen=True)
class RecordStore:
    """Store of the records.

    Args:
        client: The MLflow store.
        experiment: MLflow experiment id.
    """

    client: MlflowClient
    experiment: str


@dataclass(frozen=True)
class PreparedStudy:
    """A study, or a confirmation, that can start.

    Args:
        options: As asked, with absolute paths, name and experiment.
        data: What is trained on.
        records: Where the records go.
        searches: What is searched, in order.
        protocol: Digest of all that must agree for two trials to be comparable, besides the noise level.
        lock: Held as long as the study runs.
        models: What is trained, for people.
        design: The design of a confirmation; None in a search.
    """

    options: StudyOptions
    data: StudyData
    records: RecordStore
    searches: tuple[Search, ...]
    protocol: str
    lock: FileLock
    models: str = ""
    design: Design | None = None

    @property
    def folder(self) -> Path:
        """Return the study's own folder."""
        return self.options.folder

    @property
    def epochs(self) -> int:
        """Return the planned epochs of a trial."""
        return self.options.shared.training.epochs

    @property
    def stage(self) -> str:
        """Return the stage of its trials."""
        return SEARCH if self.design is None else self.design.stage

    @property
    def spaces(self) -> dict[str, dict[str, Any]]:
        """Return digest and content of each search space by its own name, for the record of the study."""
        return {search.space.own_name: search.space.record for search in self.searches}

    @property
    def labels(self) -> list[str]:
        """Return lines on the labels that are not the corpus's; in a confirmation, those of the first fold and seed."""
        tasks = {search.space.labels: search.task for search in self.searches if search.space.labels != CONSENSUS}
        return [f"labels    {labels_line(task.manifest)}" for task in tasks.values()]

    @property
    def selection(self) -> Selection:
        """Return how configurations are chosen."""
        return SELECTIONS[self.options.select_on]

    def release(self) -> None:
        """Give the name back: remove the folder of a study that has not begun."""
        release(self.folder, self.lock)


def release(folder: Path, lock: FileLock) -> None:
    """Remove the folder of a study that has not begun.

    Args:
        folder: The folder; one that holds anything stays.
        lock: The lock on it.
    """
    if folder.is_dir() and not any(path.name != ".lock" for path in folder.iterdir()):
        lock.release()
        (folder / ".lock").unlink(missing_ok=True)
        folder.rmdir()
