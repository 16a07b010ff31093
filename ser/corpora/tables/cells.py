"""Cells of a table as text, numbers and seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ser.utils.errors import shown

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def is_missing(cell: Any) -> bool:
    """Return whether a cell holds no value: None, NaN, NaT or pandas.NA."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float | np.floating) and np.isnan(cell))


def text(cell: Any) -> str:
    """Return a cell as text without blanks at its ends: missing is empty, and a whole number has no decimals.

    Example:
        >>> text(" a "), text(7.0), text(None)
        ('a', '7', '')
    """
    if isinstance(cell, str):
        return cell.strip()
    if is_missing(cell):
        return ""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def number(cell: Any) -> float:
    """Return a cell as a number, NaN if it is blank; a decimal comma is a decimal point.

    Args:
        cell: A number or a text.

    Raises:
        ValueError: If the cell is neither.

    Example:
        >>> number("0,25"), number(3)
        (0.25, 3.0)
    """
    written = text(cell)
    if _DECIMAL_COMMA.fullmatch(written):
        written = written.replace(",", ".")
    try:
        return float(written) if written else float("nan")
    except ValueError:
        raise ValueError(f"{shown(written)} is not a number") from None


def seconds(cell: Any) -> float:
    """Return a cell as seconds, NaN if it is blank.

    Args:
        cell: A number of seconds, a pandas Timedelta, or a text such as ``1.5``, ``1,5``, ``0 days 00:00:01.500000``,
            ``00:01:30.5``, ``01:30``, ``PT1.5S`` or ``1500ms``.

    Raises:
        ValueError: If the cell is nothing of this kind.

    Example:
        >>> seconds("0 days 00:00:01.500000"), seconds("01:30"), seconds("PT2.25S")
        (1.5, 90.0, 2.25)
    """
    if isinstance(cell, pd.Timedelta | np.timedelta64) and not pd.isna(cell):
        return float(pd.Timedelta(cell).total_seconds())
    written = text(cell)
    if written == "NaT":
        return float("nan")
    try:
        return number(written)
    except ValueError:
        pass
    try:
        long = f"00:{written}" if written.count(":") == 1 and "day" not in written else written
        return float(pd.Timedelta(long.replace(",", ".")).total_seconds())
    except (ValueError, OverflowError):
        raise ValueError(f"{shown(written)} is not a number of seconds") from None


def parsed(
    cells: Iterable[Any], parse: Callable[[Any], Any], blank: Any, column: str, errors: list[tuple[int, str]]
) -> pd.Series:
    """Parse a column; cells that cannot be read become blank, so that all errors are found at once.

    Args:
        cells: N cells.
        parse: Converts a cell; raises ``ValueError`` or ``TypeError``.
        blank: Value in place of a cell that cannot be read; None gives a column of objects, NaN one of numbers.
        column: Name of the column, for errors.
        errors: (row, what is wrong) of each such cell is appended.
    """
    cells = list(cells)
    if blank is not None and (plain := _plain_numbers(cells)) is not None:
        return plain
    values = []
    for row, cell in enumerate(cells):
        try:
            values.append(parse(cell))
        except (ValueError, TypeError) as error:
            errors.append((row, f"{column}: {error}"))
            values.append(blank)
    return pd.Series(values, dtype=object if blank is None else float)


def _plain_numbers(cells: Sequence[Any]) -> pd.Series | None:
    """Return a column of numbers at once, or None if a cell is anything else but a number or blank."""
    try:
        values = [float("nan") if cell is None or cell == "" else cell for cell in cells]
        if any(isinstance(cell, bool) for cell in values):
            return None
        return pd.Series(np.array(values, dtype=object).astype(float))
    except (TypeError, ValueError):
        return None
