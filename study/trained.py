"""What a run of MLflow has trained: its newest whole checkpoint, and the study that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from ser.errors import UserError
from study.checkpoints import newest_checkpoint
from study.options import RECORD, StudyOptions
from study.records import KIND, TRIAL, Tag
from study.tracking import absolute_uri, first_line, open_client, without_password


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


def find_trained(run_id: str, tracking_uri: str) -> Trained:
    """Finds what a run has trained; only reads.

    Args:
        run_id: Of a trial's run.
        tracking_uri: The MLflow store.

    Raises:
        UserError: No such run, one that is no trial's, or a trial without a checkpoint on this machine.
    """
    client = open_client(absolute_uri(tracking_uri))
    where = without_password(tracking_uri)
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
    checkpoint, torn = newest_checkpoint(folder)
    if checkpoint is None:
        raise UserError(f"run {run_id!r} has no {'whole ' if torn else ''}checkpoint in {str(folder)!r} yet.")
    storage = study.parents[1]
    options = StudyOptions(name=study.name, storage_path=storage, resume=True).resumed(study)
    return Trained(checkpoint, options, storage / "features")
