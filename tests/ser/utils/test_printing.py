"""Sentences and tables in a terminal: nothing is wider than it, no word, number or command is broken."""

import io
import re
import string

import pytest
from rich.console import Console

from ser.utils.printing import print_table, say, wrapped

WIDTHS = (40, 80, 100, 110, 140)
COMMAND = (
    "python study/run.py --space proselflc cross_entropy --corpus ravdess --corpus-root PATH --noise clean noisy-B"
)


def printed(width, body, *, terminal=True):
    console = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)
    body(console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("indent", ["", "  ", "  fold      ", " " * 12])
def test_a_sentence_is_broken_between_words_and_continued_with_an_indent(width, indent):
    words = [letter * (3 + place % 9) for place, letter in enumerate(string.ascii_lowercase * 3)]
    lines = wrapped(indent + " ".join(words), width).split("\n")
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == (indent + " ".join(words)).split()
    expected = 12 if len(indent) == 12 else len(indent) + 2
    assert all(len(line) - len(line.lstrip()) == expected for line in lines[1:])


@pytest.mark.parametrize("text", [f"Next: {COMMAND}", f"Or this: {COMMAND}. Then look.", f"  {COMMAND}"])
def test_a_command_stays_whole_on_a_line_of_its_own(text):
    assert COMMAND in [line.strip() for line in wrapped(text, 80).split("\n")]


def test_a_path_is_not_broken():
    path = "/data/" + "folder/" * 20 + "file.csv"
    assert path in wrapped(f"wrote {path}", 80).split()


def test_a_pipe_gets_no_line_breaks():
    text = "  " + "word " * 60 + COMMAND
    assert printed(80, lambda console: say(console, text), terminal=False) == text + "\n"
    assert max(map(len, printed(80, lambda console: say(console, "word " * 60)).splitlines())) <= 80


COLUMNS = ["noise", "space", *(f"val_noisy/metric{place} of it" for place in range(9)), "why"]
ROWS = [
    [level, space, *(f"{place}.{place}2345 ± 0.1" for place in range(9)), "the trial ran out of memory on its device"]
    for level in ("clean", "noisy-A")
    for space in ("symmetric_cross_entropy", "elr")
]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_a_table_fits_and_keeps_every_number_name_and_heading_whole(width):
    text = printed(width, lambda console: print_table(console, COLUMNS, ROWS, "Scores", groups=[r[0] for r in ROWS]))
    assert max(map(len, text.splitlines())) <= width
    for row in ROWS:
        assert all(cell in text for cell in row[:-1])
    assert {word for name in COLUMNS for word in name.split()} <= {*re.split(r"[\s:]+", text)}
    assert text.count("symmetric_cross_entropy") >= 2


def test_rows_are_found_in_each_part_by_their_names():
    text = printed(80, lambda console: print_table(console, COLUMNS, ROWS))
    parts = [part for part in text.split("\n\n") if "val_noisy" in part]
    assert len(parts) > 1
    assert all(part.count("symmetric_cross_entropy") == part.count("elr") == 2 for part in parts)


def test_names_too_wide_for_columns_are_printed_one_row_per_line():
    name = "n" * 70
    text = printed(80, lambda console: print_table(console, ["file", "UAR"], [[name, "0.512"]]))
    assert text.split() == [f"{name}:", "UAR", "0.512"]
