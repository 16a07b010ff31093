"""All runs of a study, with the folders of their artifacts: found, measured and deleted."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ser.utils.errors import UserError
from study.schema import CONFIRM, KIND, MODEL, PARENT, Tag
from study.tracking.store import quoted, search_all


@dataclass(frozen=True)
class StudyRuns:
    """Runs of a study that can be deleted.

    Args:
        runs: Trials before their parents; also those in MLflow's trash, whose artifacts may still be there.
        artifacts: Folders of their artifacts on this machine, by run id.
        notes: Runs that stay and why, and other studies that name these runs, in lines for people.
    """

    runs: tuple[Run, ...] = ()
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def active(self) -> list[Run]:
        """Return the runs that are not in MLflow's trash."""
        return [run for run in self.runs if run.info.lifecycle_stage == LifecycleStage.ACTIVE]

    @property
    def places(self) -> set[Path]:
        """Return the folders that the study has had, by the records of its trials."""
        return {Path(run.data.tags[Tag.FOLDER]).parents[1] for run in self.runs if Tag.FOLDER in run.data.tags}

    @property
    def remote(self) -> list[str]:
        """Return the artifact locations that are not in a folder of this machine."""
        found = {str(run.info.artifact_uri).partition(f"/{run.info.run_id}")[0] for run in self.runs}
        return sorted(uri for uri in found if (folder := local_folder(uri)) is None or not folder.is_dir())

    def delete(self, client: MlflowClient) -> None:
        """Delete the artifacts that are on this machine, and move the runs to MLflow's trash.

        What is interrupted can be called again: a run is deleted after its artifacts, a parent after its trials.

        Args:
            client: The store.
        """
        for run in self.runs:
            run_id = str(run.info.run_id)
            if run_id in self.artifacts:
                shutil.rmtree(self.artifacts[run_id])
            if run.info.lifecycle_stage == LifecycleStage.ACTIVE:
                client.delete_run(run_id)


def find_study_runs(
    client: MlflowClient, experiments: Mapping[str, str], name: str, removed: Collection[str]
) -> StudyRuns:
    """Find the runs of a study, except those from which a model has been registered.

    Args:
        client: The store.
        experiments: Names of the experiments to look in, by their ids.
        name: Name of the study.
        removed: Names of all studies that are deleted together.

    Raises:
        UserError: Several experiments have runs of a study of this name.
    """
    chosen = list(experiments)
    if not chosen:
        return StudyRuns()
    runs = search_all(client, chosen, f"tags.`{Tag.STUDY}` = {quoted(name)}", ViewType.ALL)
    where = sorted({experiments[str(run.info.experiment_id)] for run in runs})
    if len(where) > 1:
        raise UserError(f"experiments {', '.join(where)} have runs of a study {name!r}. Choose one by --experiment.")
    by_id = {str(run.info.run_id): run for run in runs}
    kept: set[str] = set()
    notes = []
    for model in search_all(client, chosen, f"tags.`{KIND}` = '{MODEL}'"):
        source = model.data.tags.get(Tag.SOURCE)
        if source in by_id:
            kept |= {source, by_id[source].data.tags.get(MLFLOW_PARENT_RUN_ID, "")}
            notes.append(
                f"run {source} and its parent stay: {model.info.run_name} was registered from it. Delete that run, "
                f"{model.info.run_id}, first, if it is to go as well"
            )
    confirmed = {
        run.data.tags[Tag.STUDY]
        for run in search_all(client, chosen, f"tags.`{Tag.STAGE}` = '{CONFIRM}'")
        if run.data.tags.get(Tag.SOURCE) in by_id
    }
    for other in sorted(confirmed.difference(removed)):
        notes.append(f"confirmation {other} has configurations from these runs: it stays, and names runs that are gone")
    deleted = sorted(
        (run for run in runs if run.info.run_id not in kept), key=lambda run: run.data.tags[KIND] == PARENT
    )
    return StudyRuns(tuple(deleted), artifact_folders(client, deleted), tuple(notes))


def artifact_folders(client: MlflowClient, runs: Iterable[Run]) -> dict[str, Path]:
    """Find the folders of runs below the artifact locations of their experiments.

    Only a folder that is named after its run is found, and no symbolic link: all of it is the run's, and nothing else.

    Args:
        client: The store.
        runs: The runs.

    Returns:
        Run id → folder, for the runs that have one on this machine.
    """
    parents: dict[str, Path | None] = {}
    folders = {}
    for run in runs:
        run_id, experiment = str(run.info.run_id), str(run.info.experiment_id)
        if experiment not in parents:
            parents[experiment] = local_folder(str(client.get_experiment(experiment).artifact_location))
        parent = parents[experiment]
        if parent is None or local_folder(str(run.info.artifact_uri)) != parent / run_id / "artifacts":
            continue
        folder = parent / run_id
        if run_id.isalnum() and folder.is_dir() and not folder.is_symlink():
            folders[run_id] = folder
    return folders


def local_folder(location: str) -> Path | None:
    """Return the folder that an artifact location names, None if it is not one of this machine.

    Example:
        >>> print(local_folder("file:///data/my%20artifacts/"), local_folder("s3://bucket/a"), local_folder("./mlruns"))
        /data/my artifacts None None
    """
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path)) if parts.netloc in ("", "localhost") else None
    return Path(location) if location.startswith("/") else None
