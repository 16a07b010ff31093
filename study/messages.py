"""Texts that are safe to print; they live in ``ser/utils/errors.py``, which the command line needs too."""

from __future__ import annotations

from ser.utils.errors import first_line, log_unexpected, without_password

__all__ = ["first_line", "log_unexpected", "without_password"]
