"""The terminal: how the commands print."""

from __future__ import annotations

import pandas as pd
from rich.console import Console

from ser.utils.printing import LONGEST_WORD, print_table
from ser.utils.printing import make_console as make_console
from ser.utils.printing import say as say

NUMBER = r"^[-+−<>]?[.\d]"
MISSING = "–"
"""Text of a value that is unknown or undefined."""


def show_table(console: Console, text: pd.DataFrame, title: str, below: str | None = None, keys: int = 1) -> None:
    """Print a table that fits the console, with numbers on the right and a line between noise levels.

    Args:
        console: Where to print.
        text: The table; all columns are strings.
        title: Title above the table.
        below: Column that is printed below the table, one line per row, because it is too wide.
        keys: Number of leading columns that name a row.
    """
    shown = text.drop(columns=below or [])
    kinds = column_kinds(shown)
    console.print()
    print_table(
        console,
        list(shown.columns),
        shown.astype(str).to_numpy().tolist(),
        title,
        numbers=[name for name, kind in zip(shown.columns, kinds, strict=True) if kind == "number"],
        groups=shown["noise"].tolist() if "noise" in shown else (),
        keys=keys,
    )
    if below is not None:
        names = [name for name in ("noise", "space", "trial") if name in text]
        say(console, f"{below}:")
        for row in text.to_dict("records"):
            say(console, f"  {' '.join(row[name] for name in names)}: {row[below] or MISSING}")


def column_kinds(text: pd.DataFrame) -> list[str]:
    """Return the kind of each column of a table.

    Args:
        text: The table; all columns are strings.

    Returns:
        ``number``; ``word``, if no cell needs a line break; or ``text``.

    Example:
        >>> column_kinds(pd.DataFrame({"space": ["elr"], "p": [">0.999"], "reason": ["a trial ran out of memory"]}))
        ['word', 'number', 'text']
    """
    kinds = []
    for place in range(text.shape[1]):
        cells = text.iloc[:, place].astype(str)
        filled = cells[cells != MISSING]
        is_number = len(filled) > 0 and bool(filled.str.match(NUMBER).all())
        kinds.append("text" if (cells.str.len() > LONGEST_WORD).any() else "number" if is_number else "word")
    return kinds
