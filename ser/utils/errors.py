"""Mistakes a user can make, told in one readable message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake in the call, the data or the environment; its text says what, where and what to do.

    Command lines print it without a traceback and exit with code 2.
    """


class DataErrors(UserError):
    """Faults in the data, all of them.

    Args:
        where: What was read, such as ``"corpus 'ravdess' at /data"``.
        faults: ``(utterance_id or file, what is wrong)``, one for each fault.
        advice: What to do about it, appended as the last line.
    """

    def __init__(self, where: str, faults: Sequence[tuple[str, str]], advice: str = "") -> None:
        self.faults = list(faults)
        count = f"{len(self.faults)} fault" + ("s" if len(self.faults) != 1 else "")
        lines = [f"{where}: {count}:", *(f"  {name}: {fault}" for name, fault in self.faults)]
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
