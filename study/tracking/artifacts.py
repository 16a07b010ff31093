"""Reads artifacts of runs by their own addresses, because MLflow's client looks a run up several times for each."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pandas as pd
from mlflow import MlflowClient, artifacts
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException

from ser.utils.command_names import command_line
from ser.utils.errors import UserError, first_line
from study.environment import environment

Content = TypeVar("Content")


def read_document(client: MlflowClient, run: Run, name: str) -> Mapping[str, Any] | None:
    """Read a JSON artifact of a run.

    Args:
        client: The MLflow store.
        run: The run.
        name: File name of the artifact.

    Returns:
        Its content, or None if the run has no such artifact or it is damaged.
    """
    try:
        return _read(client, run, name, lambda path: json.loads(path.read_text(encoding="utf-8")))
    except (MlflowException, OSError, ValueError):
        return None


def read_table(client: MlflowClient, run: Run, name: str) -> pd.DataFrame | None:
    """Read a Parquet artifact of a run.

    Args:
        client: The MLflow store.
        run: The run.
        name: File name of the artifact.

    Returns:
        The table, or None if the run has no such artifact.

    Raises:
        UserError: If the artifact cannot be downloaded or read.
    """
    try:
        return _read(client, run, name, pd.read_parquet)
    except (MlflowException, OSError, ValueError) as error:
        raise UserError(
            f"{name} of MLflow run {run.info.run_id} cannot be read: {first_line(error)}. Restore the artifact, or "
            f"train again: {command_line('study/run.py')} with a new --name."
        ) from None


def _read(client: MlflowClient, run: Run, name: str, read: Callable[[Path], Content]) -> Content | None:
    """Return what a function reads from an artifact's file, None if the run has no such artifact."""
    root, store = str(run.info.artifact_uri), client.tracking_uri
    listed = artifacts.list_artifacts(artifact_uri=root, tracking_uri=store)
    if name not in {PurePosixPath(file.path).name for file in listed}:
        return None
    with environment({MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name: "false"}), tempfile.TemporaryDirectory() as folder:
        address = f"{root}/{name}"
        return read(Path(artifacts.download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=store)))
