"""What a run of MLflow has trained: its newest whole checkpoint, and the study that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ser.corpora import Corpus, load, parse_options
from ser.utils.errors import UserError
from study.messages import first_line, without_password
from study.options import RECORD, StudyOptions
from study.schema import KIND, TRIAL, Tag
from study.tracking.store import absolute_uri, open_client
from study.trial.checkpoints import newest_checkpoint


@dataclass(frozen=True)
class Trained:
    """A trial's network.

    Args:
        checkpoint: The newest whole one.
        study: The options of the study.
        features: Folder of the study's feature stores.
    """

    checkpoint: Path
    study: StudyOptions
    features: Path


@dataclass(frozen=True)
class TrialFolder:
    """Where a trial has run, on this machine.

    Args:
        path: Its own folder.
        study: The options of the study.
        features: Folder of the study's feature stores.
    """

    path: Path
    study: StudyOptions
    features: Path

    def load_corpus(self) -> Corpus:
        """The corpus of the study.

        Raises:
            UserError: It is not on this machine, or not readable.
        """
        study = self.study
        return load(study.corpus, study.corpus_root, study.exclude, parse_options(study.corpus_options))


def find_trained(run_id: str, tracking_uri: str) -> Trained:
    """Finds what a run has trained; only reads.

    Args:
        run_id: Of a trial's run.
        tracking_uri: The MLflow store.

    Raises:
        UserError: No such run, one that is no trial's, or a trial without a checkpoint on this machine.
    """
    return newest_of(
        run_id, find_trial(run_id, open_client(absolute_uri(tracking_uri)), without_password(tracking_uri))
    )


def find_trial(run_id: str, client: MlflowClient, where: str) -> TrialFolder:
    """Finds where a trial has run; only reads.

    Args:
        run_id: Of a trial's run.
        client: The MLflow store.
        where: Its URI, as it may be shown.

    Raises:
        UserError: No such run, one that is no trial's, or one whose folder is not on this machine.
    """
    try:
        tags = client.get_run(run_id).data.tags
    except MlflowException as error:
        raise UserError(f"there is no run {run_id!r} in {where} ({first_line(error)}).") from None
    if tags.get(KIND) != TRIAL or Tag.FOLDER not in tags:
        raise UserError(f"run {run_id!r} in {where} is not of a trial. Name a child run, such as best_runs.csv lists.")
    folder = Path(tags[Tag.FOLDER])
    study = folder.parents[1]
    if not (study / RECORD).is_file():
        raise UserError(
            f"run {run_id!r} was trained in {str(folder)!r}, which is not there. Run this where the study ran, or "
            "where its --storage-path is mounted under the same path."
        )
    storage = study.parents[1]
    options = StudyOptions(name=study.name, storage_path=storage, resume=True).resumed(study)
    return TrialFolder(folder, options, storage / "features")


def newest_of(run_id: str, trial: TrialFolder) -> Trained:
    """The network of a trial.

    Args:
        run_id: Its run, to be named in messages.
        trial: From ``find_trial``.

    Raises:
        UserError: It has no whole checkpoint.
    """
    checkpoint, torn = newest_checkpoint(trial.path)
    if checkpoint is None:
        raise UserError(f"run {run_id!r} has no {'whole ' if torn else ''}checkpoint in {str(trial.path)!r} yet.")
    return Trained(checkpoint, trial.study, trial.features)
