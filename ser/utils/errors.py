"""Errors as messages: mistakes of the user, texts without passwords, tracebacks in a file."""

from __future__ import annotations

import difflib
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path


class UserError(Exception):
    """Mistake in the call, the data or the environment; the text says what is wrong, where, and what to do.

    Command lines print it without a traceback and exit with code 2.
    """


class DataErrors(UserError):
    """Errors found in the data, all in one message.

    Args:
        where: Source of the data, such as ``"corpus 'ravdess' at /data"``.
        errors: ``(utterance_id or file, description)``, one per error.
        advice: Advice to the user, the last line of the message.
    """

    def __init__(self, where: str, errors: Sequence[tuple[str, str]], advice: str = "") -> None:
        self.errors = list(errors)
        count = f"{len(self.errors)} error" + ("s" if len(self.errors) != 1 else "")
        lines = [f"{where}: {count}:", *(f"  {name}: {error}" for name, error in self.errors)]
        super().__init__("\n".join(lines + ([advice] if advice else [])))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Create the error for a misspelt name, with the nearest known names and all known names.

    Args:
        kind: Kind of name, such as ``"corpus"``.
        name: Name that the user gave.
        known: All valid names.

    Returns:
        A ``UserError`` for the caller to raise.

    Example:
        >>> print(unknown_name("corpus", "ravdes", ["emodb", "ravdess"]))
        unknown corpus 'ravdes'. Did you mean 'ravdess'? Known: emodb, ravdess.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(match) for match in near)}? " if near else ""
    return UserError(f"unknown {kind} {name!r}. {hint}Known: {', '.join(known)}.")


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
