"""A part of the report: sentences, tables and figures, printed by its own command and set by the report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.common.style import save
from ser.utils.errors import UserError


@dataclass(frozen=True)
class NamedTable:
    """A table.

    Args:
        name: Of its files.
        caption: What it shows, and against which labels it was scored.
        data: At full precision, for the CSV.
        text: As it is displayed: all columns strings. One without rows is not displayed, and ``data`` is in the CSV.
    """

    name: str
    caption: str
    data: pd.DataFrame
    text: pd.DataFrame


@dataclass(frozen=True)
class NamedFigure:
    """A figure.

    Args:
        name: Of its files.
        caption: What it shows.
        alternative: What it says, in words, for who cannot see it.
        figure: The drawing.
    """

    name: str
    caption: str
    alternative: str
    figure: Figure


@dataclass(frozen=True)
class NamedSound:
    """A recording to listen to.

    Args:
        name: Of its file.
        caption: What is to be heard, and what it was called.
        flac: Its content.
    """

    name: str
    caption: str
    flac: bytes = field(repr=False)

    @property
    def data_uri(self) -> str:
        """For the ``src`` of an HTML ``audio`` element."""
        return f"data:audio/flac;base64,{base64.b64encode(self.flac).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """What an analysis found.

    Args:
        name: Of its folder and anchor, such as ``significance``.
        title: For people.
        sentences: The findings in plain words, the most important first.
        tables: In order.
        figures: In order.
        notes: What a reader must know to read them rightly.
        missing: What cannot be shown, and how to get it; empty if all is there.
        sounds: In order.
    """

    name: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[NamedTable, ...] = ()
    figures: tuple[NamedFigure, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    sounds: tuple[NamedSound, ...] = ()


def show(section: Section, console: Console) -> None:
    """Prints a section's sentences, tables and notes."""

    def tell(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    tell(section.title)
    for sentence in section.sentences:
        tell(f"  {sentence}")
    for table in _displayed(section):
        console.print(rich_table(table.text, table.caption))
    for note in (*section.notes, *section.missing):
        tell(note)


def rich_table(text: pd.DataFrame, title: str) -> Table:
    """A table of strings for the terminal; columns that look like numbers stand right."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in text.columns:
        numeric = text[column].str.match(r"^[-+−<.\d–]").all()
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in text.itertuples(index=False):
        table.add_row(*map(str, row))
    return table


def write(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Writes tables as CSV, Markdown and LaTeX (booktabs), figures as SVG, PDF and PNG, sounds as FLAC.

    Args:
        sections: What was found.
        folder: Made if it is not there.

    Returns:
        The files.

    Raises:
        UserError: The folder is not writable.
    """
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for section in sections:
            for table in section.tables:
                notes = [table.caption, *section.notes]
                contents = {
                    "csv": table.data.to_csv(index=False),
                    "md": "\n".join([markdown_table(table.text), "", *(f"* {note}" for note in notes), ""]),
                    "tex": "\n".join([*(f"% {note}" for note in notes), table.text.to_latex(index=False, escape=True)]),
                }
                for suffix, content in contents.items():
                    if table.text.empty and suffix != "csv":
                        continue
                    path = folder / f"{table.name}.{suffix}"
                    path.write_text(content, encoding="utf-8")
                    paths.append(path)
            for figure in section.figures:
                for suffix in ("svg", "pdf", "png"):
                    path = folder / f"{figure.name}.{suffix}"
                    save(figure.figure, path)
                    paths.append(path)
            for sound in section.sounds:
                path = folder / f"{sound.name}.flac"
                path.write_bytes(sound.flac)
                paths.append(path)
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def _displayed(section: Section) -> list[NamedTable]:
    return [table for table in section.tables if not table.text.empty]


def page(section: Section) -> str:
    """A section as one Markdown page, less its figures and sounds."""
    lines = [f"# {section.title}", "", *(f"{sentence}\n" for sentence in section.sentences)]
    for table in _displayed(section):
        lines += [f"## {table.caption}", "", markdown_table(table.text), ""]
    return "\n".join([*lines, *(f"* {note}" for note in (*section.notes, *section.missing)), ""])


def publish(section: Section, folder: Path, console: Console) -> None:
    """What an analysis' command does: prints the section, writes it, and its page under the section's name.

    Args:
        section: What was found.
        folder: Made if it is not there.
        console: Where it is printed.

    Raises:
        UserError: There is nothing to show, or the folder is not writable.
    """
    if not section.tables and not section.figures:
        raise UserError(" ".join(section.missing) or f"there is nothing to show of: {section.title}.")
    show(section, console)
    paths = write([section], folder)
    paths.append(folder / f"{section.name}.md")
    paths[-1].write_text(page(section), encoding="utf-8")
    for path in paths:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)


def markdown_table(text: pd.DataFrame) -> str:
    """A Markdown table of strings."""
    header = "| " + " | ".join(map(str, text.columns)) + " |"
    rule = "| " + " | ".join("---" for _ in text.columns) + " |"
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in text.itertuples(index=False, name=None)]
    return "\n".join([header, rule, *rows])
