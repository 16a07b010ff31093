"""Mistakes a user can make, told in one readable message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake in the call, the data or the environment; its text says what, where and what to do.

    Command lines print it without a traceback and exit with code 2.
    """


class DataErrors(UserError):
    """All errors found in the data, in one message.

    Args:
        where: What was read, such as ``"corpus 'ravdess' at /data"``.
        errors: ``(utterance_id or file, what is wrong)``, one per error.
        advice: What to do about it, appended as the last line.
    """

    def __init__(self, where: str, errors: Sequence[tuple[str, str]], advice: str = "") -> None:
        self.errors = list(errors)
        count = f"{len(self.errors)} error" + ("s" if len(self.errors) != 1 else "")
        lines = [f"{where}: {count}:", *(f"  {name}: {error}" for name, error in self.errors)]
        super().__init__("\n".join(lines + ([advice] if advice else [])))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a misspelt name: names the nearest known ones, or all.

    Args:
        kind: What the name stands for, such as ``"corpus"``.
        name: What the user wrote.
        known: Every valid name.

    Returns:
        A ``UserError``, to be raised by the caller.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(match) for match in near)}? " if near else ""
    return UserError(f"unknown {kind} {name!r}. {hint}Known: {', '.join(known)}.")
