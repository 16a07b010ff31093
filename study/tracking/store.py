"""The MLflow store: opens it, finds and creates runs, and records what all runs share."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_RUN_NAME,
    MLFLOW_USER,
)

from ser.corpora import Corpus
from ser.utils.errors import UserError
from ser.utils.hashing import digest
from study.environment import CODE_ROOT, environment
from study.messages import first_line, without_password
from study.schema import KIND, MANIFEST, PARENT, STOPPED, TRIAL, Tag
from study.uri import SQLITE

ANSWER_SECONDS = 5
FIRST_SERVER_ERROR = 500
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS)}
PACKAGES = ("ambivalent-ser", "torch", "ray", "optuna", "mlflow", "numpy", "pandas", "scikit-learn")

PAGE = 1000


def open_client(uri: str) -> MlflowClient:
    """Open an MLflow store; a SQLite database is created or migrated.

    Args:
        uri: MLflow tracking URI.

    Returns:
        Client of the store, which has answered.

    Raises:
        UserError: The server does not answer, or the store cannot be opened.
    """
    shown = without_password(uri)
    if uri.lower().startswith(("http://", "https://")):
        try:
            # MLflow's own client would try for minutes. A server that refuses the request raises below.
            answer = _health(uri)
            if answer.status_code >= FIRST_SERVER_ERROR:
                answer.raise_for_status()
        except (requests.RequestException, ValueError) as error:
            raise UserError(
                f"--tracking-uri {shown}: no MLflow server answers ({type(error).__name__}). Start one (mlflow server "
                "--port 5000), correct the URI, or leave the option out for a local SQLite store."
            ) from None
        with environment(PATIENCE):  # for this first call only; records are uploaded with more retries
            return _opened(uri)
    if not uri.startswith(SQLITE):
        if not uri or uri.startswith("sqlite:"):
            raise UserError(f"--tracking-uri {uri!r} names no database. Give one as sqlite:///PATH/mlflow.db.")
        return _opened(uri)
    database = check_database(uri)
    # Two processes must not create or migrate a database at the same time.
    with FileLock(f"{database}.lock"):
        if not database.exists():
            _make_database(database)
        return _opened(uri)


def check_database(uri: str) -> Path:
    """Return the file of a SQLite URI, which need not exist.

    Raises:
        UserError: The file cannot be created, or exists and cannot be read and written.
    """
    shown = without_password(uri)
    database = Path(uri.removeprefix(SQLITE)).absolute()
    if not database.parent.is_dir() or not os.access(database.parent, os.W_OK):
        raise UserError(f"--tracking-uri {shown}: folder {str(database.parent)!r} is missing or not writable.")
    if database.exists() and not (database.is_file() and os.access(database, os.R_OK | os.W_OK)):
        raise UserError(f"--tracking-uri {shown}: {str(database)!r} is not a file that can be read and written.")
    return database


def _make_database(database: Path) -> None:
    """Create a SQLite database, under another name until it is complete: an incomplete one cannot be opened."""
    making = database.with_name(f"{database.name}.making")
    for left in database.parent.glob(f"{making.name}*"):  # after a kill
        left.unlink()
    _opened(f"{SQLITE}{making}")
    making.replace(database)


def _health(uri: str) -> requests.Response:
    """Ask a server for its health, and again if it is slow, since one that has just started is slow to answer."""
    url = f"{uri.rstrip('/')}/health"
    try:
        return requests.get(url, timeout=ANSWER_SECONDS)
    except requests.Timeout:
        return requests.get(url, timeout=ANSWER_SECONDS)


def _opened(uri: str) -> MlflowClient:
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise UserError(f"the MLflow store {without_password(uri)} cannot be opened: {first_line(error)}") from None
    return client


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of an experiment, which is created if it does not exist.

    Artifacts are stored next to a SQLite database, in ``mlartifacts``.

    Args:
        client: Client of the store.
        uri: Tracking URI of the store.
        name: Name of the experiment.

    Raises:
        UserError: The experiment was deleted, or MLflow refuses its name.
    """
    existing = client.get_experiment_by_name(name)
    if existing is not None:
        if existing.lifecycle_stage == "deleted":
            raise UserError(f"MLflow experiment {name!r} was deleted; restore it or choose another --experiment.")
        return str(existing.experiment_id)
    location = None
    if uri.startswith(SQLITE):
        folder = Path(uri.removeprefix(SQLITE)).absolute().parent / "mlartifacts"
        location = (folder / digest(name)).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        # Another study may have created it in the meantime.
        if (created := client.get_experiment_by_name(name)) is not None:
            return str(created.experiment_id)
        raise UserError(f"MLflow experiment {name!r} cannot be created: {first_line(error)}") from None


def environment_tags() -> dict[str, str]:
    """Return the versions of Python, of this project and of its main dependencies, and the git commit of a checkout."""
    tags = {"version.python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            tags[f"version.{package}"] = version(package)
    if not (CODE_ROOT / ".git").exists():
        return tags  # an installed package may lie in a repository of another project
    command = ["git", "-C", str(CODE_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError, subprocess.CalledProcessError):
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        tags[MLFLOW_GIT_COMMIT] = commit
    return tags


def find_run(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> Run | None:
    """Return a run that has all these tags, None if there is none."""
    query = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())
    found = client.search_runs([experiment], filter_string=query, max_results=1)
    return found[0] if found else None


def search_all(client: MlflowClient, experiments: list[str], query: str) -> list[Run]:
    """Return all runs that match a query, past MLflow's page limit."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(experiments, query, max_results=PAGE, page_token=token)
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
    client.set_tag(run_id, Tag.PLANNED_TRIALS, tags[Tag.PLANNED_TRIALS])  # a study can be extended
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
    dataset = run.inputs.dataset_inputs[0].dataset if run.inputs else None
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
            client.set_tag(run.info.run_id, Tag.STATUS, STOPPED)
        client.set_terminated(run.info.run_id, "KILLED")


def identity(name: str) -> dict[str, str]:
    """Return the tags that MLflow's UI shows as name and user."""
    return {MLFLOW_RUN_NAME: name, MLFLOW_USER: os.environ.get("USER", "unknown")}


def quoted(value: str) -> str:
    """Return a string quoted for MLflow's filters, which know two kinds of quotes and no escapes.

    Example:
        >>> print(quoted("noisy-A"), quoted("it's"))
        'noisy-A' "it's"
    """
    return f'"{value}"' if "'" in value else f"'{value}'"
