"""Section of the results: sentences, tables, figures and sounds, for the terminal, for files and for the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from analysis.common.style import label, save
from ser.utils.errors import UserError
from study.console import column_kinds, say, show_table
from study.tracking.best_table import markdown_table

LATEX = {"number": "r", "word": "l", "text": "p{6cm}"}


@dataclass(frozen=True)
class NamedTable:
    """Table with the name of its files.

    Args:
        name: Name of its files.
        caption: Content of the table, and the labels that its scores are against.
        data: Values at full precision, for the CSV file.
        text: Values as displayed; all columns are strings. A table without rows is not displayed; its ``data`` is
            written as CSV.
        below: Column that the terminal prints below the table, one line per row, because it is too wide.
        keys: Number of leading columns that stay visible on a narrow screen.
        filters: Columns among whose values readers of the page choose.
    """

    name: str
    caption: str
    data: pd.DataFrame
    text: pd.DataFrame
    below: str | None = None
    keys: int = 1
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedFigure:
    """Figure with the name of its files.

    Args:
        name: Name of its files.
        caption: Content of the figure.
        alternative: Text for readers who cannot see the figure.
        figure: The drawing.
        hover: Id (gid) of a drawn artist → text that is shown on hover.
    """

    name: str
    caption: str
    alternative: str
    figure: Figure
    hover: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedSound:
    """Recording with the name of its file.

    Args:
        name: Name of its file.
        caption: Content of the recording, with its labels.
        flac: Content of the FLAC file.
    """

    name: str
    caption: str
    flac: bytes = field(repr=False)

    @property
    def data_uri(self) -> str:
        """Return the value of ``src`` of an HTML ``audio`` element."""
        return f"data:audio/flac;base64,{base64.b64encode(self.flac).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """Result of one analysis.

    Args:
        name: Name of its folder, its page and its anchor in the report, such as ``significance``.
        title: Heading.
        sentences: Findings in words, the most important one first.
        tables: Tables in the order of display.
        figures: Figures in the order of display.
        notes: Remarks that readers need for a correct interpretation.
        missing: What cannot be shown, why, and how to get it.
        sounds: Recordings in the order of display.
        optional_files: Glob patterns of files that only some calls write; those of an earlier call are removed.
    """

    name: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[NamedTable, ...] = ()
    figures: tuple[NamedFigure, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    sounds: tuple[NamedSound, ...] = ()
    optional_files: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether the section has no table, figure or recording."""
        return not (self.tables or self.figures or self.sounds)

    @property
    def displayed_tables(self) -> list[NamedTable]:
        """Return the tables that have rows."""
        return [table for table in self.tables if not table.text.empty]


def about(section: Section, data: str, remarks: Sequence[str] = ()) -> Section:
    """Return a section whose title, tables and figures name the data that they are of.

    Args:
        section: The result of an analysis.
        data: Name of the data.
        remarks: Remarks on what is shown and what is left out; they come first.
    """
    for figure in section.figures:
        label(figure.figure, data)
    return replace(
        section,
        title=f"{section.title}: {data}",
        tables=tuple(replace(table, caption=f"{data}: {table.caption}") for table in section.tables),
        figures=tuple(replace(figure, caption=f"{data}: {figure.caption}") for figure in section.figures),
        notes=section.notes if section.is_empty else (*remarks, *section.notes),
        missing=(*remarks, *section.missing) if section.is_empty else section.missing,
    )


def publish(section: Section, folder: Path, console: Console) -> None:
    """Print a section and write its files; a section without content is printed in one sentence and writes none.

    Args:
        section: The result of an analysis.
        folder: Folder of the files; created if necessary.
        console: Console to print on.

    Raises:
        UserError: If the folder is not writable.
    """
    if section.is_empty:
        for sentence in section.missing or (f"{section.title}: there is nothing to show.",):
            say(console, sentence)
        return
    show(section, console)
    for path in write(section, folder):
        say(console, f"wrote {path}")


def show(section: Section, console: Console) -> None:
    """Print a section's sentences, tables and notes."""
    say(console, section.title)
    for sentence in section.sentences:
        say(console, f"  {sentence}")
    for table in section.displayed_tables:
        show_table(console, table.text, table.caption, table.below, table.keys)
    for note in (*section.notes, *section.missing):
        say(console, note)


def write(section: Section, folder: Path) -> list[Path]:
    """Write a section's files.

    Tables are written as CSV, Markdown and LaTeX (booktabs), figures as SVG, PDF and PNG, recordings as FLAC, and the
    section's text with all its tables as one Markdown page of the section's name.

    Args:
        section: The result of an analysis.
        folder: Folder of the files; created if necessary.

    Returns:
        The paths of the files.

    Raises:
        UserError: If the folder is not writable.
    """
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in section.optional_files:
            for old in folder.glob(pattern):
                old.unlink()
        for name, content in _texts(section).items():
            paths.append(folder / name)
            paths[-1].write_text(content, encoding="utf-8")
        for figure in section.figures:
            for suffix in ("svg", "pdf", "png"):
                paths.append(folder / f"{figure.name}.{suffix}")
                save(figure.figure, paths[-1])
        for sound in section.sounds:
            paths.append(folder / f"{sound.name}.flac")
            paths[-1].write_bytes(sound.flac)
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def _texts(section: Section) -> dict[str, str]:
    """Return file name → content of the tables and the page."""
    texts = {}
    for table in section.tables:
        texts[f"{table.name}.csv"] = table.data.to_csv(index=False)
        if table.text.empty:
            continue
        notes = [table.caption, *section.notes]
        texts[f"{table.name}.md"] = "\n".join([markdown_table(table.text), "", *(f"* {note}" for note in notes), ""])
        columns = "".join(LATEX[kind] for kind in column_kinds(table.text))
        latex = table.text.to_latex(index=False, escape=True, column_format=columns)
        texts[f"{table.name}.tex"] = "\n".join([*(f"% {note}" for note in notes), latex])
    return texts | {f"{section.name}.md": page(section)}


def page(section: Section) -> str:
    """Return a section as one Markdown page, without its figures and recordings."""
    lines = [f"# {section.title}", "", *(f"{sentence}\n" for sentence in section.sentences)]
    for table in section.displayed_tables:
        lines += [f"## {table.caption}", "", markdown_table(table.text), ""]
    return "\n".join([*lines, *(f"* {note}" for note in (*section.notes, *section.missing)), ""])
