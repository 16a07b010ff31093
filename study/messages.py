"""Texts as they may be shown: without passwords, and an error in a line."""

from __future__ import annotations

import re


def without_password(text: str) -> str:
    """A URI, or a text with URIs in it, as it may be shown: passwords become ``***``."""
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|token)=)[^&\s]*", r"\1***", text)


def first_line(error: Exception) -> str:
    """An error's first line, passwords hidden."""
    return without_password((str(error).strip().splitlines() or [type(error).__name__])[0])
