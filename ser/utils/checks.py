"""Checks of parameter values; each raises an error that names the parameter, the value and what is expected.

The argument ``what`` is the parameter's name in the message, such as ``"loss.epsilon"``.
"""

from __future__ import annotations

import json
import math
import re
from numbers import Integral, Real
from typing import Any

from ser.utils.errors import UserError, shown, unknown_name

LONGEST_VALUE = 6000
"""Characters of a value as text; MLflow cuts the parameter of a run that is longer."""


def require(condition: bool, message: str) -> None:
    """Raise a UserError with a message unless a condition holds."""
    if not condition:
        raise UserError(message)


def check_range(what: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise a ``UserError`` unless ``value`` is a number from ``low`` to ``high``, both included."""
    if not (_is_number(value) and low <= value <= high):
        wanted = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise UserError(f"{what} must be a number {wanted}, got {shown(value)}.")


def check_positive(what: str, value: Any) -> None:
    """Raise a ``UserError`` unless ``value`` is a number above 0."""
    if not (_is_number(value) and value > 0):
        raise UserError(f"{what} must be a number > 0, got {shown(value)}.")


def check_count(what: str, value: Any, least: int = 1) -> None:
    """Raise a ``UserError`` unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise UserError(f"{what} must be an integer >= {least}, got {shown(value)}.")


def check_choice(what: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a ``UserError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise unknown_name(what, str(value), choices)


def check_flag(what: str, value: Any, *, optional: bool = False) -> None:
    """Raise a ``UserError`` unless ``value`` is True or False, or None if it is optional."""
    if not (isinstance(value, bool) or (optional and value is None)):
        raise UserError(
            f"{what} must be {'true, false or omitted' if optional else 'true or false'}, got {shown(value)}."
        )


def check_recordable(name: str, value: Any) -> None:
    """Check that the records of a trial, MLflow's parameters among them, give back a value as it was trained with.

    Args:
        name: Its dotted name, at most 250 characters.
        value: The value; as text it has at most ``LONGEST_VALUE`` characters.

    Raises:
        UserError: MLflow would refuse the name or cut the value, or the value is not one of JSON.
    """
    require(
        re.fullmatch(r"[\w.\- ]{1,250}", name) is not None,
        f"configuration key {shown(name)}: expected at most 250 letters, digits, spaces, underscores, dots and dashes.",
    )
    try:
        length = len(value if isinstance(value, str) else json.dumps(value))
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise UserError(
            f"{name} is a value of type {kind}; it must be a number, a text, true, false, null or a list of them."
        ) from None
    require(
        length <= LONGEST_VALUE,
        f"{name} has {length:,} characters; it must have at most {LONGEST_VALUE:,}. Give the name of a file instead.",
    )


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
