"""Rendering of the report as one HTML page that loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section
from analysis.page.html.svg import LARGEST_SVG, inline_svg, png_uri
from analysis.page.opening import Opening
from study.console import MISSING, column_kinds

TEMPLATES = Path(__file__).parent / "templates"
PIXELS_PER_INCH = 96
SMALLEST = 0.75
"""Smallest scale of a figure on a narrow screen; its box scrolls instead of shrinking it further."""
BROWSED_ROWS = 30
"""Number of rows above which a table sorts and filters."""
PLAIN_ROWS = 200
"""Largest number of rows that a table has without the script; the script shows those that follow, too."""

# A command in a sentence; option values with blanks are quoted.
VALUE = r"(?:&#39;.*?&#39;|(?!--)[^\s,;()]*[^\s,;().])"
COMMAND = (
    r"(?:(?:python|make|mlflow) ?(?:-m [\w.]+|study/\w+\.py|analysis/\w+\.py)|ambivalent [a-z-]+)"
    rf"(?: --[\w-]+(?:(?: {VALUE})+(?= --|$)|(?: {VALUE})?))*"  # several values end before an option or at the end
)


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Args:
        name: Heading.
        kind: ``number``, ``word`` (cells without line breaks) or ``text``.
        is_key: Whether the column stays visible on a narrow screen.
        is_filter: Whether readers choose among its values.
    """

    name: str
    kind: str
    is_key: bool
    is_filter: bool


@dataclass(frozen=True)
class PageTable:
    """Table for the template.

    Args:
        id: Id of its caption.
        caption: Text above the table.
        columns: Columns in the order of display.
        rows: Pairs of column and cell, for each row.
        count: Number of all rows.
        rest: JSON of the cells of the rows that follow ``rows``; empty if there are none.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[tuple[Column, str], ...], ...]
    count: int
    rest: Markup

    @property
    def is_browsed(self) -> bool:
        """Return whether the script adds sorting and filters."""
        return self.count > BROWSED_ROWS or any(column.is_filter for column in self.columns)

    @property
    def is_records(self) -> bool:
        """Return whether a narrow screen shows one record per card, because columns side by side do not fit."""
        return sum(column.is_key for column in self.columns) > 1 or any(one.kind == "text" for one in self.columns)


@dataclass(frozen=True)
class PageFigure:
    """Figure for the template.

    Args:
        id: Its anchor.
        caption: Text below the figure.
        alternative: Text for readers who cannot see the figure.
        svg: Element; empty for a figure of too many marks.
        png: Data URI; empty for an SVG.
        width: Width in pixels.
        height: Height in pixels.
    """

    id: str
    caption: str
    alternative: str
    svg: Markup
    png: str
    width: int
    height: int

    @property
    def least(self) -> int:
        """Return the smallest width in pixels to which it shrinks."""
        return round(SMALLEST * self.width)


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

    @property
    def is_shown(self) -> bool:
        """Return whether the section has anything but reasons why it is not shown."""
        return bool(self.sentences or self.tables or self.figures or self.sounds)


def render(
    title: str,
    subtitle: str,
    opening: Opening,
    figure: NamedFigure | None,
    warnings: Sequence[str],
    sections: Sequence[Section],
    notice: str = "",
) -> str:
    """Return the page.

    Args:
        title: Heading of the page.
        subtitle: Description of the records.
        opening: The first screen.
        figure: Figure of the first screen; it is not shown again in its section.
        warnings: Remarks below the first screen.
        sections: Sections in the order of display; what they lack is listed at the end.
        notice: What a reader must know before the answer; empty for nothing.

    Returns:
        HTML that loads nothing from the network.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    marker = _Marker(dict(opening.terms))
    environment.filters["marked"] = marker.mark
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    shown = [page_section(section, figure) for section in sections]
    first = page_figure(figure, "opening") if figure is not None else None
    figures = [*([first] if first else []), *(one for section in shown for one in section.figures)]
    style += "".join(f"#{one.id} .drawing{{min-width:{one.least}px}}\n" for one in figures)
    return environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        opening=opening,
        term_id=term_id,
        figure=first,
        warnings=warnings,
        sections=[section for section in shown if section.is_shown],
        lacking=[section for section in shown if section.missing],
        notice=notice,
        marker=marker,
        missing=MISSING,
        style=Markup(style),
        style_digest=_digest(style),
        script=Markup(script),
        script_digest=_digest(script),
    )


class _Marker:
    """Marker of commands, and of each term where a section uses it first.

    Args:
        terms: Term → explanation.
    """

    def __init__(self, terms: Mapping[str, str]) -> None:
        self._terms = {str(escape(term)): text for term, text in terms.items()}
        words = "|".join(
            rf"(?<![\w&#-]){re.escape(term)}(?![\w-])" for term in sorted(self._terms, key=len, reverse=True)
        )
        self._pattern = re.compile(f"(?P<command>{COMMAND})" + (f"|(?P<term>{words})" if words else ""))
        self._used: set[str] = set()

    def begin(self) -> str:
        """Begin a section, in which terms are marked again."""
        self._used.clear()
        return ""

    def mark(self, text: str) -> Markup:
        """Return a sentence as HTML."""
        return Markup(self._pattern.sub(self._element, str(escape(text))))

    def _element(self, found: re.Match[str]) -> str:
        if found["command"]:
            return f"<code>{' '.join(f'<span>{word}</span>' for word in found[0].split(' '))}</code>"
        if found[0] in self._used:
            return found[0]
        self._used.add(found[0])
        return f'<a class="term" href="#{term_id(found[0])}" title="{escape(self._terms[found[0]])}">{found[0]}</a>'


def mark_commands(text: str) -> Markup:
    """Return a sentence as HTML with its commands marked as code."""
    return _Marker({}).mark(text)


def term_id(term: str) -> str:
    """Return the anchor of a term.

    Example:
        >>> term_id("UAR"), term_id("95 % interval")
        ('term-UAR', 'term-95---interval')
    """
    return "term-" + re.sub(r"[^\w]", "-", term)


def page_section(section: Section, opening: NamedFigure | None = None) -> PageSection:
    """Return a section for the template.

    Args:
        section: Result of an analysis.
        opening: Figure that is shown on the first screen instead.
    """
    return PageSection(
        name=section.name,
        title=section.title,
        sentences=section.sentences,
        tables=tuple(page_table(table, section.name) for table in section.displayed_tables),
        figures=tuple(page_figure(figure, section.name) for figure in section.figures if figure is not opening),
        sounds=section.sounds,
        notes=section.notes,
        missing=section.missing,
    )


def page_table(table: NamedTable, section: str) -> PageTable:
    """Return a table for the template.

    Args:
        table: The table.
        section: Name of its section.
    """
    text = table.text.astype(str)
    kinds = zip(text.columns, column_kinds(text), strict=True)
    columns = tuple(
        Column(str(name), kind, place < table.keys, name in table.filters) for place, (name, kind) in enumerate(kinds)
    )
    cells = list(text.itertuples(index=False, name=None))
    rows = tuple(tuple(zip(columns, row, strict=True)) for row in cells[:PLAIN_ROWS])
    # "<" could end the element that the JSON stands in.
    rest = json.dumps(cells[PLAIN_ROWS:], ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    further = Markup(rest if len(cells) > PLAIN_ROWS else "")
    return PageTable(f"table-{section}-{table.name}", table.caption, columns, rows, len(cells), further)


def page_figure(figure: NamedFigure, section: str) -> PageFigure:
    """Return a figure for the template.

    Args:
        figure: The figure.
        section: Name of its section.
    """
    width, height = (round(PIXELS_PER_INCH * float(inch)) for inch in figure.figure.get_size_inches())
    identifier = f"figure-{section}-{figure.name}"
    svg, png = inline_svg(figure, identifier), ""
    if len(svg) > LARGEST_SVG:
        svg, png = "", png_uri(figure)
    return PageFigure(identifier, figure.caption, figure.alternative, Markup(svg), png, width, height)


def _digest(text: str) -> str:
    """Return the hash of an inline style or script for the content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
