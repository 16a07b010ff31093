"""The report as one HTML page that needs nothing else: sections in, text out."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section

TEMPLATE = "report.html.j2"
PIXELS_PER_INCH = 96
LARGEST_SVG = 400_000
"""Bytes; a figure with more marks than that is embedded as PNG."""
PNG_DPI = 150
SMALLEST = 0.65
"""Scale down to which a figure shrinks on a phone; below, its text could not be read, and its box scrolls instead."""
WORD = 18
"""Letters up to which a cell is not broken into lines."""
FULL_ROWS = 60
"""Rows of a table on the page; the CSV has all."""

# A call of this project's commands, as the analyses' sentences have them; values with blanks are quoted.
COMMAND = re.compile(
    r"(?:python|make|mlflow) ?(?:-m [\w.]+|study/\w+\.py|analysis/\w+\.py)"
    r"(?: --[\w-]+(?: (?:&#39;.*?&#39;|(?!--)[^\s,;()]*[^\s,;().]))?)*"
)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: Its heading.
        kind: What its cells are: ``number``, ``word`` (not broken into lines) or ``text``.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class PageTable:
    """A table as the template takes it.

    Args:
        name: Of its files.
        caption: Above it.
        columns: In order.
        rows: (column, cell) of each.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[tuple[Column, str], ...], ...]


@dataclass(frozen=True)
class PageFigure:
    """A figure as the template takes it.

    Args:
        name: Of its anchor.
        caption: Below it.
        alternative: What it says, in words.
        source: Data URI.
        width: Pixels.
        height: Pixels.
        least: Pixels of the width below which it is not shrunk.
    """

    name: str
    caption: str
    alternative: str
    source: str
    width: int
    height: int
    least: int


@dataclass(frozen=True)
class PageSection:
    """A section as the template takes it; the fields are those of ``analysis.common.section.Section``."""

    name: str
    title: str
    sentences: tuple[str, ...]
    tables: tuple[PageTable, ...]
    figures: tuple[PageFigure, ...]
    sounds: tuple[NamedSound, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def render(
    title: str,
    subtitle: str,
    answer: Sequence[str],
    figure: NamedFigure | None,
    warnings: Sequence[str],
    sections: Sequence[Section],
) -> str:
    """The page.

    Args:
        title: The question.
        subtitle: What the records are of.
        answer: The sentences that it opens with.
        figure: The figure that follows them.
        warnings: What a reader must know at once.
        sections: In order; a figure of the opening is not drawn again.

    Returns:
        HTML that loads nothing from anywhere.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    environment.filters["commands"] = mark_commands
    return environment.get_template(TEMPLATE).render(
        title=title,
        subtitle=subtitle,
        answer=answer,
        figure=page_figure(figure) if figure is not None else None,
        warnings=warnings,
        sections=[_section(section, figure) for section in sections],
    )


def mark_commands(text: str) -> Markup:
    """A sentence with its commands marked as code; all else is escaped."""
    return Markup(COMMAND.sub(lambda found: f"<code>{found[0]}</code>", str(escape(text))))


def _section(section: Section, opening: NamedFigure | None) -> PageSection:
    drawn = [figure for figure in section.figures if figure is not opening]
    notes = section.notes
    tables = [page_table(table) for table in section.tables]
    cut = [table.name for table in section.tables if len(table.text) > FULL_ROWS]
    if cut:
        notes = (*notes, f"The first {FULL_ROWS} rows are shown of: {', '.join(cut)}; the CSV files have all.")
    return PageSection(
        name=section.name,
        title=section.title,
        sentences=section.sentences,
        tables=tuple(tables),
        figures=tuple(map(page_figure, drawn)),
        sounds=section.sounds,
        notes=notes,
        missing=section.missing,
    )


def page_table(table: NamedTable) -> PageTable:
    """A table's cells with what its columns are."""
    text = table.text.head(FULL_ROWS).astype(str)
    columns = tuple(_column(str(name), text.iloc[:, place]) for place, name in enumerate(text.columns))
    rows = tuple(tuple(zip(columns, row, strict=True)) for row in text.itertuples(index=False, name=None))
    return PageTable(table.name, table.caption, columns, rows)


def _column(name: str, cells: pd.Series[str]) -> Column:
    filled = cells[cells != "–"]
    number = len(filled) > 0 and bool(filled.str.match(r"^[-+−]?[.\d]").all() and (filled.str.len() <= WORD).all())
    return Column(name, "number" if number else "word" if (cells.str.len() <= WORD).all() else "text")


def page_figure(figure: NamedFigure) -> PageFigure:
    """A figure as a data URI, letters drawn as shapes so that it looks the same without its fonts."""
    inches = figure.figure.get_size_inches()
    width, height = (round(PIXELS_PER_INCH * float(inch)) for inch in inches)
    content, kind = _bytes(figure, "svg"), "image/svg+xml"
    if len(content) > LARGEST_SVG:
        content, kind = _bytes(figure, "png"), "image/png"
    source = f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return PageFigure(figure.name, figure.caption, figure.alternative, source, width, height, round(SMALLEST * width))


def _bytes(figure: NamedFigure, suffix: str) -> bytes:
    content = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "ambivalent", "svg.fonttype": "path"}):
        figure.figure.savefig(content, format=suffix, dpi=PNG_DPI, metadata={"Date": None} if suffix == "svg" else None)
    return content.getvalue()
