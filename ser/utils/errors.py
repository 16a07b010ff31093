"""Errors as messages: mistakes of the user, texts without passwords, tracebacks in a file."""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

_MAX_LINE = 10_000  # characters of a line of a message; room for a --classes line of hundreds of classes
_MAX_NAME = 200  # characters of a name in a list of data errors
_MAX_PROBLEM = 1000  # characters of what is wrong with it


class UserError(Exception):
    """Mistake in the call, the data or the environment; the text says what is wrong, where, and what to do.

    Command lines print it without a traceback and exit with code 2. Lines of absurd length are cut.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__("\n".join(cut(line, _MAX_LINE) for line in text.split("\n")))


class DataErrors(UserError):
    """Errors found in the data, all in one message, one line each.

    Args:
        where: Source of the data, such as ``"corpus 'ravdess' at /data"``.
        errors: ``(utterance_id or file, description)``, one per error; names are printed by ``printed_name``.
        advice: Advice to the user, the last line of the message.
    """

    def __init__(self, where: str, errors: Sequence[tuple[str, str]], advice: str = "") -> None:
        self.errors = list(errors)
        count = f"{len(self.errors)} error" + ("s" if len(self.errors) != 1 else "")
        lines = [f"{where}: {count}:"]
        lines += [f"  {printed_name(name)}: {cut(_one_line(error), _MAX_PROBLEM)}" for name, error in self.errors]
        super().__init__("\n".join(lines + ([advice] if advice else [])))


def printed_name(name: str) -> str:
    r"""Return the name of a data error as a line of a list has it, from which it can be found again.

    A name that is long, has line breaks or blanks at its ends, or begins with ``#`` is cut to one line, and the
    digest of all of it follows.

    Example:
        >>> printed_name("call 7.wav"), printed_name("call\n7.wav")
        ('call 7.wav', 'call 7.wav…77042d02')
    """
    line = _one_line(name).lstrip("#")[:_MAX_NAME]
    return name if line == name else f"{line}…{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def shown(value: object, most: int = 80) -> str:
    """Return a value of the user's as Python writes it, for a message; a long one is cut.

    Args:
        value: A cell, a name or an option.
        most: Largest number of characters of the value.

    Example:
        >>> shown("sad"), shown(b"RIFF" * 9_000_000, most=12)
        ("'sad'", "b'RIFFRIFF… (36000000 bytes)")
    """
    kind = "bytes" if isinstance(value, bytes | bytearray) else "characters"
    sized = isinstance(value, str | bytes | bytearray)
    text = repr(value[: most + 1] if sized else value)  # type: ignore[index]
    if len(text) <= most + 2:
        return text
    return f"{text[: most - 2]}… ({len(value) if sized else len(text)} {kind})"  # type: ignore[arg-type]


def listed(names: Iterable[object], most: int = 20) -> str:
    """Return names separated by commas, for a message; long ones are cut, and of many only the first are named.

    Example:
        >>> listed(["sad", "angry"]), listed(range(100), most=3)
        ('sad, angry', '0, 1, 2 and 97 more')
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(cut(str(name), _MAX_NAME) for name in names[:most]) + more


def cut(line: str, most: int = _MAX_PROBLEM) -> str:
    """Return a line for people; of one of absurd length the beginning, and how long it is.

    Example:
        >>> cut("a note"), cut("x" * 5000, most=3)
        ('a note', 'xxx… (5000 characters)')
    """
    return line if len(line) <= most else f"{line[:most]}… ({len(line)} characters)"


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).strip()


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
    near = difflib.get_close_matches(name[:_MAX_NAME], [one[:_MAX_NAME] for one in known], n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(shown, near))}? " if near else ""
    return UserError(f"unknown {kind} {shown(name)}. {hint}Known: {listed(known, most=100)}.")


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
