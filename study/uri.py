"""Tracking URIs: the default one, and how a relative one becomes absolute."""

from __future__ import annotations

from pathlib import Path

SQLITE = "sqlite:///"
DEFAULT_URI = f"{SQLITE}mlflow.db"


def absolute_uri(uri: str) -> str:
    """Return a SQLite URI with an absolute path, so that a study can be resumed from any folder; others unchanged.

    Example:
        >>> absolute_uri("sqlite:////data/mlflow.db"), absolute_uri("http://localhost:5000")
        ('sqlite:////data/mlflow.db', 'http://localhost:5000')
    """
    if not uri.startswith(SQLITE):
        return uri
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).expanduser().absolute()}"


def is_default_uri(uri: str) -> bool:
    """Return whether a tracking URI names the default store, ``mlflow.db`` in the current folder."""
    return absolute_uri(uri) == absolute_uri(DEFAULT_URI)
