"""The terminal: how the commands print."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 120
LONGEST_WORD = 18
"""Characters up to which a table cell needs no line break."""
NUMBER = r"^[-+−<]?[.\d]"
MISSING = "–"
"""Text of a value that is unknown or undefined."""


def make_console() -> Console:
    """Return a console for tables; a file or a pipe, which has no width of its own, gets one that holds them."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def say(console: Console, text: str) -> None:
    """Print text as it is: no highlighting, no markup, no line breaks of the console's own."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def terminal_table(text: pd.DataFrame, title: str, below: str | None = None) -> Table | Group:
    """Return a table for the terminal, with numbers aligned on the right and a line between noise levels.

    Args:
        text: The table; all columns are strings.
        title: Title above the table.
        below: Column that is printed below the table, one line per row, because it is too wide.
    """
    shown = text.drop(columns=below or [])
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, kind in zip(shown.columns, column_kinds(shown), strict=True):
        table.add_column(str(name), justify="right" if kind == "number" else "left", overflow="fold")
    groups = shown["noise"].tolist() if "noise" in shown else [""] * len(shown)
    for row, group, following in zip(shown.itertuples(index=False), groups, [*groups[1:], None], strict=True):
        table.add_row(*map(str, row), end_section=following not in (None, group))
    if below is None:
        return table
    keys = [name for name in ("noise", "space", "trial") if name in text]
    lines = [
        Text(f"  {' '.join(row[key] for key in keys)}: {row[below] or MISSING}") for row in text.to_dict("records")
    ]
    return Group(table, Text(f"{below}:"), *lines)


def column_kinds(text: pd.DataFrame) -> list[str]:
    """Return the kind of each column of a table.

    Args:
        text: The table; all columns are strings.

    Returns:
        ``number``; ``word``, if no cell needs a line break; or ``text``.

    Example:
        >>> column_kinds(pd.DataFrame({"space": ["elr"], "UAR": ["0.5"], "reason": ["a trial ran out of memory"]}))
        ['word', 'number', 'text']
    """
    kinds = []
    for place in range(text.shape[1]):
        cells = text.iloc[:, place].astype(str)
        filled = cells[cells != MISSING]
        is_number = len(filled) > 0 and bool(filled.str.match(NUMBER).all())
        kinds.append("text" if (cells.str.len() > LONGEST_WORD).any() else "number" if is_number else "word")
    return kinds
