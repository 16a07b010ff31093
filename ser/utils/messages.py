"""Texts that are safe to print: without passwords, errors in one line, tracebacks in a file."""

from __future__ import annotations

import re
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path


def without_password(text: str) -> str:
    """Return a URI, or a text with URIs in it, with ``***`` in place of passwords and tokens.

    Example:
        >>> without_password("http://me:secret@host")
        'http://me:***@host'
    """
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|token)=)[^&\s]*", r"\1***", text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error, without passwords; its type if it has no text.

    Example:
        >>> first_line(ValueError("no such column"))
        'no such column'
        >>> first_line(MemoryError())
        'MemoryError'
    """
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an exception's own text may fail
        lines = []
    return without_password((lines or [type(error).__name__])[0])


def log_unexpected(error: BaseException, folder: Path | None = None) -> Path:
    """Write the traceback of an unexpected error, without passwords, to a new file.

    Args:
        error: The error, with its causes.
        folder: Folder of the file; if it cannot be written to, or is None, the folder for temporary files.

    Returns:
        The file; ``/dev/stderr`` if no file can be written, where the traceback was printed instead.
    """
    trace = "".join(traceback.format_exception(error))
    command = " ".join(sys.argv)
    text = without_password(f"{time.strftime('%Y-%m-%d %H:%M:%S')}, Python {sys.version}\n{command}\n\n{trace}")
    content = text.encode(errors="backslashreplace")
    for place in (folder, None):  # None is the folder for temporary files
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(prefix="error-", suffix=".log", dir=place)
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor)
                    file.write(content)
                return Path(name)
            except OSError:
                Path(name).unlink()
                raise
    print(text, file=sys.stderr)
    return Path("/dev/stderr")
