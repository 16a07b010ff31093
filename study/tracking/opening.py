"""Opens MLflow stores and their experiments."""

from __future__ import annotations

import os
from pathlib import Path

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ser.utils.errors import UserError
from ser.utils.hashing import digest
from study.environment import environment
from study.messages import first_line, without_password
from study.uri import SQLITE

ANSWER_SECONDS = 5
FIRST_SERVER_ERROR = 500
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS)}


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
