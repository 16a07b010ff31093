"""Sentences and tables in the terminal: broken between words, numbers whole, commands on lines of their own."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 120
"""Width of tables in a file or a pipe, which has none of its own."""
LONGEST_WORD = 18
"""Characters up to which a table cell needs no line break."""
LEAST_TEXT = 24
"""Width that a column of sentences has at least, if its cells are that long."""
MOST_KEYS = 4
"""Columns that name a row, at most."""

_GAP = 2
_LABEL = 12  # column of the text after a label: "  corpus    synthetic"
_LEAST_WIDTH = 20
_COMMAND = re.compile(
    r"(?:python (?:-m )?(?:study|analysis|ser|benchmarks)[./]\S+|ambivalent [a-z][a-z-]*|mlflow (?:ui|gc|server)"
    r"|optuna-dashboard|source)\b.*?(?=[.;,]?$|[.;,] )"
)


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is; a file or a pipe gets a width that holds tables.

    Args:
        stderr: Whether it prints on standard error.
    """
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=PIPE_WIDTH)
    return console


def say(console: Console, text: str) -> None:
    """Print text; a terminal gets line breaks between words, a pipe or a file none.

    Args:
        console: Where to print.
        text: One or more lines, as they are: no markup.
    """
    shown = wrapped(text, console.width) if console.is_terminal else text
    console.print(shown, highlight=False, soft_wrap=True, markup=False, emoji=False)


def wrapped(text: str, width: int) -> str:
    r"""Return text with line breaks between words; continued lines are indented.

    Words are never broken. In a line that is too long a command of the project gets a line of its own, whole, because
    it is copied.

    Args:
        text: One or more lines.
        width: Characters of a line.

    Example:
        >>> print(wrapped("  noise     disagreement: labels that annotators gave", 40))
          noise     disagreement: labels that
                    annotators gave
        >>> print(wrapped("Test the best runs: python study/confirm.py --experiment speech.", 40))
        Test the best runs:
          python study/confirm.py --experiment speech
    """
    return "\n".join(_wrapped_line(line, max(width, _LEAST_WIDTH)) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if cell_len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    label = re.match(r"  [a-z]+ +(?=\S)", line)
    hang = " " * _LABEL if (label and label.end() == _LABEL) or len(indent) == _LABEL else indent + "  "
    found = _COMMAND.search(line)
    if found is None:
        return "\n".join(_words(line, width, hang))
    before, after = line[: found.start()].rstrip(), line[found.end() :].lstrip(".;, ")
    lines = _words(before, width, hang) if before else []
    lines.append((hang if before else indent) + found[0].strip())
    if after:
        lines += [_wrapped_line(indent + after, width)]
    return "\n".join(lines)


def _words(line: str, width: int, hang: str) -> list[str]:
    return textwrap.wrap(
        line, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str = "",
    *,
    numbers: Collection[str] = (),
    groups: Sequence[str] = (),
    keys: int = 1,
) -> None:
    """Print a table that fits; numbers and names stay whole, headings and sentences break between words.

    Where it is wider than the console, it is printed in parts, each with the leading columns that name a row. A column
    too wide for a part is printed below, one line per row; so is the whole table, if already its names are too wide.

    Args:
        console: Where to print.
        columns: Headings.
        rows: Cells of each row.
        title: Line above the table.
        numbers: Headings of the columns to align on the right.
        groups: One name per row; a line is drawn where it changes.
        keys: Number of leading columns that name a row; more if these are not unique.
    """
    columns = list(map(str, columns))
    cells = [[str(cell) for cell in row] for row in rows]
    needed = [_needed([row[place] for row in cells], name) for place, name in enumerate(columns)]
    keys = min(_keys(cells, keys), max(len(columns) - 1, 0))
    names = list(range(keys))
    if title:
        say(console, title)
    if _total(needed[place] for place in names) > console.width * 2 // 3:
        for row in cells:
            pairs = ", ".join(f"{name} {cell}" for name, cell in zip(columns[keys:], row[keys:], strict=True))
            say(console, f"  {' '.join(row[:keys])}: {pairs}")
        console.print()
        return
    parts, below = [list(names)], []
    for place in range(keys, len(columns)):
        if _total(needed[one] for one in (*names, place)) > console.width:
            below.append(place)
            continue
        if _total(needed[one] for one in (*parts[-1], place)) > console.width:
            parts.append(list(names))
        parts[-1].append(place)
    for part in parts:
        if len(part) > keys or not below:
            widths = _widths(part, columns, cells, needed, console.width)
            console.print(_table(part, widths, columns, cells, numbers, groups))
            console.print()
    for place in below:
        say(console, f"{columns[place]}:")
        for row in cells:
            say(console, f"  {' '.join(row[:keys])}: {row[place]}")
        console.print()


def _table(
    part: Sequence[int],
    widths: Sequence[int],
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    numbers: Collection[str],
    groups: Sequence[str],
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, width in zip(part, widths, strict=True):
        name = columns[place]
        table.add_column(Text(name), justify="right" if name in numbers else "left", width=width, overflow="fold")
    for position, row in enumerate(cells):
        ends = 0 < position + 1 < len(cells) and bool(groups) and groups[position + 1] != groups[position]
        table.add_row(*(Text(row[place]) for place in part), end_section=ends)
    return table


def _needed(cells: Sequence[str], heading: str) -> int:
    """Return the least width of a column: its longest cell, or longest word of sentences or of the heading."""
    longest = max(map(cell_len, cells), default=0)
    if _has_sentences(cells):
        longest = max(*(_longest_word(cell) for cell in cells), min(longest, LEAST_TEXT))
    return max(longest, _longest_word(heading), 1)


def _has_sentences(cells: Sequence[str]) -> bool:
    return any(len(cell) > LONGEST_WORD and re.search(r"[^\W\d_]{2}", cell) for cell in cells)


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _total(widths: Iterable[int]) -> int:
    some = list(widths)
    return sum(some) + _GAP * max(len(some) - 1, 0)


def _widths(
    part: Sequence[int], columns: Sequence[str], cells: Sequence[Sequence[str]], needed: Sequence[int], width: int
) -> list[int]:
    """Return the widths of a part's columns: what they need, and of what is left as much as they can use."""
    wanted = [max([cell_len(columns[place]), *(cell_len(row[place]) for row in cells)]) for place in part]
    widths = [needed[place] for place in part]
    for _ in range(max(width - _total(widths), 0)):
        missing = [want - have for want, have in zip(wanted, widths, strict=True)]
        if max(missing, default=0) <= 0:
            break
        widths[missing.index(max(missing))] += 1
    return widths


def _keys(cells: Sequence[Sequence[str]], keys: int) -> int:
    """Return the number of leading columns that name a row: at least ``keys``, as many as make the names unique."""
    for count in range(keys, MOST_KEYS + 1):
        if len({tuple(row[:count]) for row in cells}) == len(cells):
            return count
    return keys
