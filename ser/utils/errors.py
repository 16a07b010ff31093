"""Errors for mistakes of the user, each one readable message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


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
