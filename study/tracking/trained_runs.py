"""Trained runs: finds the folder, study and newest checkpoint of a trial by its MLflow run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ser.corpora import Corpus, load, parse_options
from ser.utils.errors import UserError, first_line, without_password
from study.options import RECORD, StudyOptions
from study.schema import KIND, TRIAL, Tag
from study.tracking.opening import open_existing
from study.trial.checkpoints import newest_checkpoint


@dataclass(frozen=True)
class Trained:
    """The trained network of a trial.

    Args:
        checkpoint: File of the newest whole checkpoint.
        study: Options of the study.
        features: Folder of the study's feature stores.
        fold: Number of the fold that it was trained on.
    """

    checkpoint: Path
    study: StudyOptions
    features: Path
    fold: int


@dataclass(frozen=True)
class TrialFolder:
    """The folder of a trial on this machine, and its study.

    Args:
        path: Folder of the trial.
        study: Options of the study.
        features: Folder of the study's feature stores.
        fold: Number of the fold that it was trained on.
    """

    path: Path
    study: StudyOptions
    features: Path
    fold: int

    def load_corpus(self) -> Corpus:
        """Load the corpus of the study.

        Raises:
            UserError: The corpus is not on this machine, or not readable.
        """
        study = self.study
        return load(study.corpus, study.corpus_root, study.exclude, parse_options(study.corpus_options), study.classes)


def find_trained(run_id: str, tracking_uri: str) -> Trained:
    """Find the trained network of a run; writes nothing.

    Args:
        run_id: MLflow id of a trial's run.
        tracking_uri: Absolute MLflow tracking URI.

    Raises:
        UserError: There is no such run, it is no trial's, or the trial has no checkpoint on this machine.
    """
    client = open_existing(tracking_uri)
    return newest_of(run_id, find_trial(run_id, client, without_password(tracking_uri)))


def find_trial(run_id: str, client: MlflowClient, where: str) -> TrialFolder:
    """Find the folder of a trial; writes nothing.

    Args:
        run_id: MLflow id of a trial's run.
        client: Client of the MLflow store.
        where: URI of the store for messages, without a password.

    Raises:
        UserError: There is no such run, it is no trial's, or its folder is not on this machine.
    """
    try:
        tags = client.get_run(run_id).data.tags
    except MlflowException as error:
        raise UserError(
            f"there is no run {run_id!r} in {where} ({first_line(error)}). Check the id and --tracking-uri."
        ) from None
    if tags.get(KIND) != TRIAL or Tag.FOLDER not in tags:
        raise UserError(
            f"run {run_id!r} in {where} is not a trial. Give the id of a child run, such as those in best_runs.csv."
        )
    folder = Path(tags[Tag.FOLDER])
    study = folder.parents[1]
    if not (study / RECORD).is_file():
        raise UserError(
            f"run {run_id!r} was trained in {str(folder)!r}, which does not exist here. Run the command where the "
            "study ran, or where its --storage-path is mounted under the same path. If the study was moved, resume it "
            "where it is now, even if it has ended: that corrects the records."
        )
    storage = study.parents[1]
    options = StudyOptions(name=study.name, storage_path=storage, resume=True).resumed()
    return TrialFolder(folder, options, storage / "features", int(tags[Tag.FOLD]))


def newest_of(run_id: str, trial: TrialFolder) -> Trained:
    """Return the newest trained network of a trial.

    Args:
        run_id: MLflow id of its run, for messages.
        trial: Folder from ``find_trial``.

    Raises:
        UserError: The trial has no whole checkpoint.
    """
    checkpoint, torn = newest_checkpoint(trial.path)
    if checkpoint is None:
        raise UserError(
            f"run {run_id!r} has no {'whole ' if torn else ''}checkpoint in {str(trial.path)!r}. Choose another run, "
            "or resume the study."
        )
    return Trained(checkpoint, trial.study, trial.features, trial.fold)
