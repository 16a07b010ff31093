"""The MLflow store: finds and creates runs, and records what all runs share."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Run, RunStatus, SourceType, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from ser.corpora import Corpus
from ser.utils.errors import UserError
from study.schema import KIND, MANIFEST, PARENT, STOPPED, TRIAL, Tag

Result = TypeVar("Result")

PAGE = 1000

DELETED_ATTEMPTS = 3
REFUSALS = (ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST))
"""MLflow's answers to a change of a deleted run: of one in its trash, and of one that is not in the store at all."""

LONGEST_TAG = 5000
"""Characters of a tag's value; MLflow refuses longer ones, at different lengths in different stores."""


def find_run(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> Run | None:
    """Return a run that has all these tags, None if there is none."""
    query = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())
    found = client.search_runs([experiment], filter_string=query, max_results=1)
    return found[0] if found else None


def is_gone(client: MlflowClient, run_id: str) -> bool:
    """Return whether a run is deleted, or not in the store at all.

    Raises:
        MlflowException: The store cannot be reached.
    """
    try:
        return str(client.get_run(run_id).info.lifecycle_stage) == LifecycleStage.DELETED
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return True
        raise


def repeat_if_deleted(task: Callable[[], Result]) -> Result:
    """Call a function again if the store refuses a change, because a run that it has found can be deleted meanwhile.

    MLflow cannot find a run and change it in one step, and its pages let everybody delete runs at any time.

    Args:
        task: Finds runs, or creates those that are missing, and changes them; it can be called again at any point.

    Returns:
        What the function returns.

    Raises:
        MlflowException: The store refuses ``DELETED_ATTEMPTS`` times, or cannot be reached.
    """
    for _ in range(DELETED_ATTEMPTS - 1):
        try:
            return task()
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
    return task()


def search_all(client: MlflowClient, experiments: list[str], query: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """Return all runs that match a query, past MLflow's page limit; deleted ones if the view has them."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(experiments, query, view, max_results=PAGE, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def open_parent(
    client: MlflowClient,
    experiment: str,
    name: str,
    key: Mapping[str, str],
    tags: Mapping[str, str],
    dataset: Dataset,
    manifest: Mapping[str, Any],
) -> str:
    """Return the id of the parent run of a search, which is created if it does not exist.

    Args:
        client: Client of the store.
        experiment: MLflow experiment id.
        name: Name of the run in MLflow's UI.
        key: Tags that identify the run.
        tags: All other tags.
        dataset: Training data.
        manifest: Noise manifest, logged as an artifact.
    """
    key = {**key, KIND: PARENT}
    run = find_run(client, experiment, key)
    if run is None:
        run = client.create_run(experiment, tags={**tags, **key, **identity(name)})
    run_id = str(run.info.run_id)
    client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
    planned = tags[Tag.PLANNED_TRIALS]  # a study can be extended
    client.set_tag(run_id, Tag.PLANNED_TRIALS, planned, synchronous=True)
    log_dataset(client, run_id, dataset)
    client.log_dict(run_id, dict(manifest), MANIFEST)
    return run_id


def dataset_of(corpus: Corpus, level: str, manifest: Mapping[str, Any]) -> Dataset:
    """Return a corpus at a noise level as an MLflow dataset: digest, schema and profile."""
    return Dataset(
        name=f"{corpus.name} {level}",
        digest=manifest["digest"],
        source_type="local",
        source=json.dumps({"uri": str(corpus.root) if corpus.root else corpus.name}),
        schema=json.dumps({"classes": list(corpus.classes), "columns": list(corpus.table.columns)}),
        profile=json.dumps({"utterances": len(corpus), "corpus_digest": corpus.digest, "parts": manifest["parts"]}),
    )


def classes_of(run: Run) -> list[str]:
    """Return the class names in the schema of a run's dataset.

    Raises:
        UserError: The run has no such dataset.
    """
    inputs = run.inputs.dataset_inputs if run.inputs else []
    dataset = inputs[0].dataset if inputs else None
    if dataset is None or dataset.schema is None:
        raise UserError(f"MLflow run {run.info.run_id} has no dataset with a schema, so it is no trial of a study.")
    return list(json.loads(dataset.schema)["classes"])


def log_dataset(client: MlflowClient, run_id: str, dataset: Dataset) -> None:
    """Log the dataset that a run trains on."""
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])])


def sweep(client: MlflowClient, experiment: str, study: str) -> None:
    """End the runs of a study that killed or interrupted trials left running."""
    query = f"tags.`{Tag.STUDY}` = {quoted(study)} and attributes.status = 'RUNNING'"
    for run in search_all(client, [experiment], query):
        if run.data.tags.get(KIND) == TRIAL:
            client.set_tag(run.info.run_id, Tag.STATUS, STOPPED, synchronous=True)
        client.set_terminated(run.info.run_id, "KILLED")


def user_name() -> str:
    """Return the name of the user who runs this process, ``unknown`` if the system does not know it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def identity(name: str) -> dict[str, str]:
    """Return the tags that MLflow's UI shows as name, user and source, which is the command that runs."""
    source = {MLFLOW_SOURCE_NAME: sys.argv[0], MLFLOW_SOURCE_TYPE: SourceType.to_string(SourceType.LOCAL)}
    return {MLFLOW_RUN_NAME: name, MLFLOW_USER: user_name(), **source}


def quoted(value: str) -> str:
    """Return a string quoted for MLflow's filters, which know two kinds of quotes and no escapes.

    Example:
        >>> print(quoted("noisy-A"), quoted("it's"))
        'noisy-A' "it's"
    """
    return f'"{value}"' if "'" in value else f"'{value}'"


def shortened(text: str) -> str:
    """Return a text that a tag can hold."""
    return text if len(text) <= LONGEST_TAG else f"{text[: LONGEST_TAG - 1]}…"
