"""Tracking URIs: which one is meant, its absolute form, and the file of a SQLite database."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

from ser.utils.errors import UserError, without_password

SQLITE = "sqlite:///"
DEFAULT_URI = f"{SQLITE}mlflow.db"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

# MLflow's own variables.
TRACKING_URI = "MLFLOW_TRACKING_URI"
EXPERIMENT_NAME = "MLFLOW_EXPERIMENT_NAME"
EXPERIMENT_ID = "MLFLOW_EXPERIMENT_ID"


def chosen_uri(asked: str | None) -> str:
    """Return the absolute tracking URI that a command uses: its option, else the environment, else the default store.

    A value from the environment is reported on stderr, so call this once in a command.

    Args:
        asked: The option ``--tracking-uri``; None if it is left out.

    Raises:
        UserError: The URI names no store.
    """
    if asked is None:
        asked = _from_environment(TRACKING_URI, "--tracking-uri") or DEFAULT_URI
    return absolute_uri(asked)


def chosen_experiment(asked: str | None) -> str | None:
    """Return the experiment that a command uses: its option, else the environment; None if neither names one.

    A value from the environment is reported on stderr, so call this once in a command.

    Args:
        asked: The option ``--experiment``; None if it is left out.

    Raises:
        UserError: The environment names an experiment by its id.
    """
    if asked is not None:
        return asked
    name = _from_environment(EXPERIMENT_NAME, "--experiment")
    if name is None and os.environ.get(EXPERIMENT_ID):
        raise UserError(
            f"{EXPERIMENT_ID} is set, but experiments are chosen by name here. Unset it, or name the experiment with "
            f"--experiment or {EXPERIMENT_NAME}."
        )
    return name


def _from_environment(variable: str, option: str) -> str | None:
    """Return the value of a variable that stands for an option, and report it; None if it is unset or empty."""
    value = os.environ.get(variable) or None
    if value is not None:
        print(f"{option} {without_password(value)}, from {variable}", file=sys.stderr)
    return value


def absolute_uri(uri: str) -> str:
    """Return a SQLite URI with an absolute path, so that a study can be resumed from any folder; others unchanged.

    Args:
        uri: MLflow tracking URI.

    Raises:
        UserError: It is a path, or names no database.

    Example:
        >>> absolute_uri("sqlite:////data/mlflow.db"), absolute_uri("http://localhost:5000")
        ('sqlite:////data/mlflow.db', 'http://localhost:5000')
    """
    if not uri or uri.casefold().startswith("sqlite"):
        return f"{SQLITE}{database_file(uri)}"
    if uri.casefold().startswith("file:") or not re.match(r"[A-Za-z][\w+.-]+:|databricks$", uri):
        raise UserError(
            f"--tracking-uri {uri!r} is a path, and MLflow no longer keeps records in files. Give a database, as "
            f"sqlite:///PATH/mlflow.db; mlflow migrate-filestore copies the records of a folder into one."
        )
    return uri


def is_database(uri: str) -> bool:
    """Return whether a tracking URI names a database, not a server."""
    return uri.startswith(DATABASES)


def database_file(uri: str) -> Path:
    """Return the absolute path of the file that a SQLite URI names; ``~`` is the home folder.

    MLflow decodes ``%20`` and the like in a URI, and ends the path at a question mark.

    Args:
        uri: MLflow tracking URI, ``sqlite:///`` and a path.

    Raises:
        UserError: It names no database, or MLflow would read the path as another one.

    Example:
        >>> print(database_file("sqlite:////data/my%20study/mlflow.db"))
        /data/my study/mlflow.db
    """
    written = uri.removeprefix(SQLITE)
    if not uri.startswith(SQLITE) or written in ("", ":memory:"):
        raise UserError(f"--tracking-uri {uri!r} names no database. Give one as {SQLITE}PATH/mlflow.db.")
    try:
        path = Path(unquote(written)).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"--tracking-uri {uri!r}: {error}") from None
    if "?" in written or "?" in str(path) or unquote(str(path)) != str(path) or re.match(r"[A-Za-z]:[\\/]", written):
        raise UserError(
            f"--tracking-uri {uri!r} would be read by MLflow as another path than {str(path)!r}. Choose a path without "
            "question marks, drive letters, and percent signs before two hexadecimal digits."
        )
    return path


def is_default_uri(uri: str) -> bool:
    """Return whether a command that leaves ``--tracking-uri`` out uses this store: ``mlflow.db`` in this folder."""
    return not os.environ.get(TRACKING_URI) and absolute_uri(uri) == absolute_uri(DEFAULT_URI)
