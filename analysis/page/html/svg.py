"""Figures as SVG within the page: they follow light and dark paper and show values on hover."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

import matplotlib.pyplot as plt
from matplotlib.colors import is_color_like, to_hex, to_rgb

from analysis.common.section import NamedFigure

LARGEST_SVG = 400_000
"""Largest SVG in characters; a larger figure is embedded as PNG."""
PNG_DPI = 150
INK, PAPER = "currentColor", "var(--paper)"
DARKEST_GREY, LIGHTEST_GREY = 0x20, 0xE0
"""Greys between these values become lighter on dark paper; outside, only pure black and pure white are exchanged."""
LEAST_INK_OF_TEXT = 62
"""Smallest share of black in grey text, in %: lighter text is hard to read on either paper (WCAG 2, level AA)."""
PAINTS = ("fill", "stroke", "stop-color")
COORDINATES = ("d", "x", "y", "points", "transform", "width", "height")
LONG_FRACTION = re.compile(r"(\d\.\d{3})\d+")
FONT = re.compile(r"(?:(italic|oblique) )?(?:(bold|\d00) )?([\d.]+)px")
REFERENCE = re.compile(r"(?<=#)[^)]+")
NO_TURN = re.compile(r"^rotate\(-?0 .*\)$")
FROM_THE_PAGE = {"font-family"}
TEXT = {"text", "tspan"}
NOT_DRAWN = {"metadata", "style", "title"}


def inline_svg(figure: NamedFigure, prefix: str) -> str:
    """Return a figure as an ``svg`` element for HTML.

    Black becomes the colour of the text, white the colour of the paper, and greys what is between them. Styles become
    attributes, so that a strict content security policy allows them. Text is text, in the font of the page.

    Args:
        figure: The figure; its hover texts become ``title`` elements.
        prefix: Start of every id; unique on the page.
    """
    content = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": prefix, "svg.fonttype": "none"}):
        figure.figure.savefig(content, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(content.getvalue())
    _remove_what_is_not_drawn(root)
    named = {id_ for element in root.iter() for id_ in _references(element)} | set(figure.hover)
    for element in list(root.iter()):
        element.tag = _local(element.tag)
        element.text, element.tail = ((text or "").strip() or None for text in (element.text, element.tail))
        if text := figure.hover.get(element.get("id", "")):
            title = ElementTree.Element("title")
            title.text = text
            element.insert(0, title)
        _set_attributes(element, named, prefix)
    width, height = (f"{float(root.attrib.pop(side).removesuffix('pt')) * 4 / 3:.0f}" for side in ("width", "height"))
    for name in ("version", "id"):
        root.attrib.pop(name, None)
    own = {"class": "drawing", "role": "img", "aria-label": figure.alternative, "width": width, "height": height}
    root.attrib.update(own | {"fill": INK, "stroke-linejoin": "round", "stroke-linecap": "butt"})
    return ElementTree.tostring(root, encoding="unicode")


def png_uri(figure: NamedFigure) -> str:
    """Return a figure as a data URI of a PNG."""
    content = io.BytesIO()
    figure.figure.savefig(content, format="png", dpi=PNG_DPI)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def on_paper(colour: str, least_ink: int = 0) -> str:
    """Return a colour as it follows light and dark paper.

    Args:
        colour: Any colour of Matplotlib, or ``none``.
        least_ink: Smallest share of black in a grey, in %.

    Example:
        >>> on_paper("#000000"), on_paper("white"), on_paper("#0072B2")
        ('currentColor', 'var(--paper)', '#0072B2')
        >>> on_paper("#808080")
        'color-mix(in srgb, currentColor 50%, var(--paper))'
    """
    if not is_color_like(colour) or colour == "none":
        return colour
    values = {round(255 * part) for part in to_rgb(colour)}
    if len(values) > 1:
        return colour
    (value,) = values
    if value in (0, 255):
        return PAPER if value else INK
    if DARKEST_GREY <= value <= LIGHTEST_GREY:
        return f"color-mix(in srgb, {INK} {max(least_ink, 100 - 100 * value / 255):.0f}%, {PAPER})"
    return to_hex(colour)


def _remove_what_is_not_drawn(root: ElementTree.Element) -> None:
    for element in list(root.iter()):
        for child in list(element):
            if _local(child.tag) in NOT_DRAWN:
                element.remove(child)


def _set_attributes(element: ElementTree.Element, named: set[str], prefix: str) -> None:
    """Turn styles into attributes, colours into those of the paper, and ids into unique ones."""
    attributes: dict[str, str] = {}
    for key, value in element.attrib.items():
        if key == "style":
            attributes |= _declarations(value)
        else:
            attributes[_local(key)] = value
    attributes = {
        key: value
        for key, value in attributes.items()
        if key not in FROM_THE_PAGE and not (key == "transform" and NO_TURN.match(value))
    }
    for key, value in attributes.items():
        if key in PAINTS:
            attributes[key] = on_paper(value, LEAST_INK_OF_TEXT if element.tag in TEXT else 0)
        elif key in COORDINATES:
            attributes[key] = LONG_FRACTION.sub(r"\1", " ".join(value.split()))
        if key == "href" or value.startswith("url("):
            attributes[key] = REFERENCE.sub(lambda found: f"{prefix}-{found[0]}", value)
    if (name := attributes.pop("id", None)) in named:
        attributes["id"] = f"{prefix}-{name}"
    element.attrib.clear()
    element.attrib.update(attributes)


def _declarations(style: str) -> Mapping[str, str]:
    """Return what a style declares; ``font`` is no attribute, its parts are."""
    parts = (part.partition(":") for part in style.split(";") if ":" in part)
    found = {name.strip(): value.strip() for name, _, value in parts}
    if font := FONT.match(found.pop("font", "")):
        parts_of_font = zip(("font-style", "font-weight", "font-size"), font.groups(), strict=True)
        found |= {name: value for name, value in parts_of_font if value}
    return found


def _references(element: ElementTree.Element) -> list[str]:
    """Return the ids that an element refers to."""
    links = (value for key, value in element.attrib.items() if _local(key) == "href" and value.startswith("#"))
    urls = (found for value in element.attrib.values() for found in re.findall(r"url\(#([^)]+)\)", value))
    return [*(link[1:] for link in links), *urls]


def _local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]
