"""Texts that are safe to print: without passwords, and errors in one line."""

from __future__ import annotations

import re


def without_password(text: str) -> str:
    """Return a URI, or a text with URIs in it, with ``***`` in place of passwords and tokens.

    Example:
        >>> without_password("http://me:secret@host")
        'http://me:***@host'
    """
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|token)=)[^&\s]*", r"\1***", text)


def first_line(error: Exception) -> str:
    """Return the first line of an error, without passwords."""
    return without_password((str(error).strip().splitlines() or [type(error).__name__])[0])
