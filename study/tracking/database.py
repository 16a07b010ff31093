"""Databases of MLflow: whether one is there, and whether the installed MLflow can use it as it is.

MLflow itself creates a database that is missing, and upgrades an older one, whenever it opens it. An upgraded database
can no longer be opened by others who share it and have the older MLflow.
"""

from __future__ import annotations

import os
import shlex
from importlib.metadata import version
from pathlib import Path

from mlflow.store import db_migrations

from ser.utils.command_names import command_line
from ser.utils.errors import UserError, first_line, without_password
from study.uri import database_file

FILES_SHOWN = 5


def check_exists(uri: str) -> None:
    """Raise if the file of a SQLite database is missing or cannot be read.

    Args:
        uri: ``sqlite:///`` and a path.

    Raises:
        UserError: With the other databases of its folder.
    """
    path = database_file(uri)
    if not path.exists():
        folder = path.parent
        others = sorted(other.name for other in folder.glob("*.db"))
        more = f" and {len(others) - FILES_SHOWN} more" if len(others) > FILES_SHOWN else ""
        there = f"There: {', '.join(others[:FILES_SHOWN])}{more}. " if others else ""
        there = there if folder.is_dir() else f"There is no folder {str(folder)!r}. "
        raise UserError(
            f"--tracking-uri {uri}: there is no database {str(path)!r}. {there}Name an existing one with "
            f"--tracking-uri, or run a study first: {command_line('study/run.py')}"
        )
    _check_file(path, uri, os.R_OK)


def check_writable(uri: str) -> Path:
    """Return the file of a SQLite database, which need not exist.

    Args:
        uri: ``sqlite:///`` and a path.

    Raises:
        UserError: The file cannot be created, or exists and cannot be read and written.
    """
    path = database_file(uri)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"--tracking-uri {uri}: folder {str(path.parent)!r} is missing or not writable.")
    if path.exists():
        _check_file(path, uri, os.R_OK | os.W_OK)
    return path


def _check_file(path: Path, uri: str, access: int) -> None:
    if not (path.is_file() and os.access(path, access)):
        how = "read and written" if access & os.W_OK else "read"
        raise UserError(f"--tracking-uri {uri}: {str(path)!r} is not a file that can be {how}.")


def check_schema(uri: str) -> bool:
    """Return whether a database has tables; raise if the installed MLflow cannot use them as they are.

    Args:
        uri: URI of a database that exists, of any kind that SQLAlchemy knows.

    Raises:
        UserError: It cannot be opened, or was written by another program or another version of MLflow.
    """
    import sqlalchemy  # needed with a database alone, and slow
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    shown, installed = without_password(uri), f"MLflow {version('mlflow')}"
    try:
        engine = sqlalchemy.create_engine(uri)
        try:
            with engine.connect() as connection:
                tables = sqlalchemy.inspect(connection).get_table_names()
                found = MigrationContext.configure(connection).get_current_revision()
        finally:
            engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:  # ImportError: its driver is not installed
        raise UserError(f"--tracking-uri {shown} cannot be opened: {first_line(error)}") from None
    scripts = ScriptDirectory(str(Path(db_migrations.__file__).parent))
    newest = scripts.get_current_head()
    if not tables or found == newest:
        return bool(tables)
    if found is None:
        raise UserError(f"--tracking-uri {shown} is a database of another program. Choose another one.")
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise UserError(
            f"--tracking-uri {shown} has the schema {found}, which {installed} does not know: a newer one or another "
            "program has written it. Install the newest MLflow that this project allows, or choose another database."
        )
    raise UserError(
        f"--tracking-uri {shown} has the schema {found} of an older MLflow; {installed} needs {newest}. It is not "
        "upgraded unasked, because an older MLflow cannot open it any more. Back it up, then upgrade it: "
        f"mlflow db upgrade {shlex.quote(shown)}"
    )
