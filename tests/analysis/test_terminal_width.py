"""Every table of every section fits every terminal, with its numbers and headings whole."""

import re

import pytest
from rich.console import Console

from analysis.common.records import open_records
from analysis.common.registry import SECTIONS, load_section
from analysis.common.section import Section
from analysis.options import RecordsOptions
from study.console import show_table

pytestmark = pytest.mark.slow

NUMBER = r"[+−]?\d+\.\d+%?"
COMMAND_COLUMNS = {"value", "reason"}
"""Columns of sentences, paths and commands, which may be longer than a line."""


@pytest.fixture(scope="module")
def tables(new_made_store):
    store = new_made_store()
    store.search(
        {(space, level): [0.3, 0.6] for space in ("cross_entropy", "proselflc") for level in ("clean", "noisy-B")}
    )
    store.confirm(
        {(space, level, "search-1"): 0.6 for space in ("cross_entropy", "proselflc") for level in ("clean", "noisy-B")},
        seeds=(1,),
    )
    records = open_records(RecordsOptions(store.uri))
    sections = [load_section(name) for name in SECTIONS]
    made: list[Section] = [module.section(records, module.Options(tracking_uri=store.uri)) for module in sections]
    return [table for section in made for table in section.displayed_tables]


def test_the_sections_have_tables(tables):
    assert len(tables) > 10


@pytest.mark.parametrize("width", [80, 100, 110, 140])
def test_no_line_is_too_long_and_no_number_or_heading_is_broken(tables, width):
    for table in tables:
        console = Console(width=width, force_terminal=True, color_system=None)
        with console.capture() as printed:
            show_table(console, table.text, "", table.below, table.keys)
        lines = printed.get().splitlines()
        if not COMMAND_COLUMNS & set(table.text.columns):
            assert max(map(len, lines)) <= width, table.name
        printed_text = " ".join(lines)
        words, numbers = set(re.split(r"[\s,:]+", printed_text)), set(re.findall(NUMBER, printed_text))
        for place, column in enumerate(table.text.columns):
            assert set(re.findall(NUMBER, " ".join(table.text[column]))) <= numbers, (table.name, column)
            # Where even the names are too wide for columns, each row is a sentence that begins with them.
            assert place < table.keys or set(re.split(r"[\s,:]+", column)) <= words, (table.name, column)
