"""Checks of parameter values; each raises an error that names the parameter, the value and what is expected.

The argument ``what`` is the parameter's name in the message, such as ``"loss.epsilon"``.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from ser.utils.errors import UserError, unknown_name


def check_range(what: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise a ``UserError`` unless ``value`` is a number from ``low`` to ``high``, both included."""
    if not (_is_number(value) and low <= value <= high):
        wanted = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise UserError(f"{what} must be a number {wanted}, got {value!r}.")


def check_positive(what: str, value: Any) -> None:
    """Raise a ``UserError`` unless ``value`` is a number above 0."""
    if not (_is_number(value) and value > 0):
        raise UserError(f"{what} must be a number > 0, got {value!r}.")


def check_count(what: str, value: Any, least: int = 1) -> None:
    """Raise a ``UserError`` unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise UserError(f"{what} must be an integer >= {least}, got {value!r}.")


def check_choice(what: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a ``UserError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise unknown_name(what, str(value), choices)


def check_flag(what: str, value: Any, *, optional: bool = False) -> None:
    """Raise a ``UserError`` unless ``value`` is True or False, or None if it is optional."""
    if not (isinstance(value, bool) or (optional and value is None)):
        raise UserError(f"{what} must be {'true, false or omitted' if optional else 'true or false'}, got {value!r}.")


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
