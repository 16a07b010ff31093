"""Rendering of sections as one HTML page that loads nothing from the network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section
from study.console import column_kinds

TEMPLATE = "report.html.j2"
PIXELS_PER_INCH = 96
LARGEST_SVG = 400_000
"""Largest SVG in bytes; a larger figure is embedded as PNG."""
PNG_DPI = 150
SMALLEST = 0.65
"""Smallest scale of a figure on a narrow screen; its box scrolls instead of shrinking it further."""
FULL_ROWS = 60
"""Largest number of rows of a table on the page; the CSV file has all."""

# A command in a sentence; option values with blanks are quoted.
COMMAND = re.compile(
    r"(?:(?:python|make|mlflow) ?(?:-m [\w.]+|study/\w+\.py|analysis/\w+\.py)|ambivalent [a-z-]+)"
    r"(?: --[\w-]+(?: (?:&#39;.*?&#39;|(?!--)[^\s,;()]*[^\s,;().]))?)*"
)


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Args:
        name: Heading.
        kind: ``number``, ``word`` (cells without line breaks) or ``text``.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class PageTable:
    """Table for the template.

    Args:
        name: Name of its files.
        caption: Text above the table.
        columns: Columns in the order of display.
        rows: Pairs of column and cell, for each row.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[tuple[Column, str], ...], ...]


@dataclass(frozen=True)
class PageFigure:
    """Figure for the template.

    Args:
        name: Name of its anchor.
        caption: Text below the figure.
        alternative: Text for readers who cannot see the figure.
        source: Data URI.
        width: Width in pixels.
        height: Height in pixels.
        least: Smallest width in pixels to which it shrinks.
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
    """Section for the template, with the fields of ``analysis.common.section.Section``."""

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
    notice: str = "",
) -> str:
    """Return the page.

    Args:
        title: Heading of the page.
        subtitle: Description of the records.
        answer: Sentences at the top.
        figure: Figure below the sentences; it is not shown again in its section.
        warnings: Remarks at the top.
        sections: Sections in the order of display.
        notice: What a reader must know before the answer; empty for nothing.

    Returns:
        HTML that loads nothing from the network.
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
        notice=notice,
    )


def mark_commands(text: str) -> Markup:
    """Return a sentence as HTML with its commands marked as code."""
    return Markup(COMMAND.sub(lambda found: f"<code>{found[0]}</code>", str(escape(text))))


def _section(section: Section, opening: NamedFigure | None) -> PageSection:
    drawn = [figure for figure in section.figures if figure is not opening]
    notes = section.notes
    tables = [page_table(table) for table in section.tables]
    cut = [table.name for table in section.tables if len(table.text) > FULL_ROWS]
    if cut:
        notes = (*notes, f"Only the first {FULL_ROWS} rows are shown of: {', '.join(cut)}; the CSV files have all.")
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
    """Return a table for the template."""
    text = table.text.head(FULL_ROWS).astype(str)
    columns = tuple(Column(str(name), kind) for name, kind in zip(text.columns, column_kinds(text), strict=True))
    rows = tuple(tuple(zip(columns, row, strict=True)) for row in text.itertuples(index=False, name=None))
    return PageTable(table.name, table.caption, columns, rows)


def page_figure(figure: NamedFigure) -> PageFigure:
    """Return a figure for the template; its letters are drawn as shapes, so it looks the same without its fonts."""
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
