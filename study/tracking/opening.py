"""Opens MLflow stores and their experiments: to read, which creates nothing, or to write."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ser.utils.errors import UserError, first_line, without_password
from ser.utils.hashing import digest
from study.environment import environment
from study.tracking.database import check_exists, check_schema, check_writable
from study.uri import SQLITE, database_file, is_database

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""Settings of MLflow's client for the first request; by default it would try for minutes."""


ARTIFACTS = "mlartifacts"
"""Folder of the artifacts, next to a SQLite database."""


def open_existing(uri: str) -> MlflowClient:
    """Open an MLflow store to read it; creates and changes nothing.

    Args:
        uri: Absolute MLflow tracking URI.

    Returns:
        Client of the store, which has answered.

    Raises:
        UserError: The server does not answer, or there is no such store, or it cannot be opened as it is.
    """
    if uri.startswith(SQLITE):
        check_exists(uri)
    if is_database(uri) and not check_schema(uri):
        raise UserError(f"--tracking-uri {without_password(uri)}: the database is empty. Name one that has records.")
    return _opened(uri)


def open_client(uri: str) -> MlflowClient:
    """Open an MLflow store to write to it; a SQLite database is created if it does not exist.

    Args:
        uri: Absolute MLflow tracking URI.

    Returns:
        Client of the store, which has answered.

    Raises:
        UserError: The server does not answer, or the store cannot be opened as it is, or not be created.
    """
    if uri.startswith(SQLITE) and _is_new(database := check_writable(uri)):
        with FileLock(f"{database}.lock"):  # two processes must not create a database at the same time
            if _is_new(database):
                _create_database(database)
    if is_database(uri):
        check_schema(uri)
    return _opened(uri)


def open_for_plan(uri: str, experiment: str) -> MlflowClient:
    """Open an MLflow store for a plan, which creates nothing.

    Args:
        uri: Absolute MLflow tracking URI.
        experiment: Name of the experiment that is planned.

    Returns:
        Client of the store; of an empty one in memory while the store or the experiment does not exist.

    Raises:
        UserError: As for ``open_client``.
    """
    is_new = uri.startswith(SQLITE) and _is_new(check_writable(uri))
    if not is_new and (not is_database(uri) or check_schema(uri)):
        client = _opened(uri)
        if client.get_experiment_by_name(experiment) is not None:
            return client
    client = MlflowClient(tracking_uri=f"{SQLITE}:memory:")
    if client.get_experiment_by_name(experiment) is None:
        client.create_experiment(experiment)
    return client


def _is_new(database: Path) -> bool:
    return not database.exists() or database.stat().st_size == 0


def _create_database(database: Path) -> None:
    """Create a SQLite database, under another name until it is complete: an incomplete one cannot be opened."""
    making = database.with_name(f"{database.name}.making")
    for left in database.parent.glob(f"{making.name}*"):  # after a kill
        left.unlink()
    _opened(f"{SQLITE}{making}")
    making.replace(database)


def _opened(uri: str) -> MlflowClient:
    shown = without_password(uri)
    try:
        client = MlflowClient(tracking_uri=uri)
        with environment(PATIENCE):
            client.search_experiments(max_results=1)
    except Exception as error:
        cause = _connection_error(error)
        if cause is not None and not is_database(uri):
            raise UserError(
                f"--tracking-uri {shown}: no MLflow server answers ({type(cause).__name__}: {first_line(cause)}). "
                "Start one (mlflow server --port 5000), correct the URI, or give sqlite:///mlflow.db for a local store."
            ) from None
        raise UserError(f"--tracking-uri {shown} cannot be opened: {first_line(error)}") from None
    return client


def _connection_error(error: BaseException) -> OSError | None:
    """Return the innermost error of a connection among the causes of an error; None if a server has answered."""
    found, cause = None, error.__cause__ or error.__context__
    while cause is not None:
        found = cause if isinstance(cause, OSError) else found
        cause = cause.__cause__ or cause.__context__
    return found


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
        folder = database_file(uri).parent / ARTIFACTS
        location = (folder / digest(name)).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        # Another study may have created it in the meantime.
        if (created := client.get_experiment_by_name(name)) is not None:
            return str(created.experiment_id)
        raise UserError(f"MLflow experiment {name!r} cannot be created: {first_line(error)}") from None
