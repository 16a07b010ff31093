"""Commands printed as next steps: whole at any width, and taken by the parsers of the commands that they name."""

import io
import shlex
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from analysis.common.registry import load_section
from analysis.options import ReportOptions
from analysis.page.artifacts import PAGE
from ser.utils.command_line import parse
from study.commands import confirm, run
from study.commands.printed import resume_command, say_next
from study.commands.ui import UiOptions
from study.options import ConfirmOptions, StudyOptions

PARSERS = {
    "study": StudyOptions,
    "confirm": ConfirmOptions,
    "ui": UiOptions,
    "report": ReportOptions,
    **{name: load_section(name.replace("-", "_")).Options for name in ("best-runs", "significance", "across-corpora")},
}
URI = "postgresql://me:secret@host/my records"


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not a checkout, so the installed command is named
    uri = "sqlite:////data/my records/mlflow.db"
    return replace(
        StudyOptions(),
        name="my study",
        experiment="my speech",
        tracking_uri=uri,
        storage_path=tmp_path / "my results",
    )


def terminal(width):
    return Console(width=width or 120, file=io.StringIO(), force_terminal=width > 0, color_system=None)


def steps(console):
    """Return what is printed below "Next:", a line each, purposes left out where they have lines of their own."""
    heading, *lines = console.file.getvalue().strip().splitlines()
    assert heading == "Next:"
    return [line.strip() for line in lines if not line.endswith(":")]


def next_of(kind, options, console):
    data = SimpleNamespace(corpus=SimpleNamespace(name="synthetic"))
    prepared = SimpleNamespace(options=options, data=data)
    if kind == "search":
        run._next_commands(prepared, console)
    else:
        confirm._next_commands(prepared, SimpleNamespace(test_corpora={"crema-d": "x"}), console)


@pytest.mark.parametrize("width", [40, 80, 140])
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("search", ["ui", "confirm", "report", "best-runs", "study", "study"]),
        ("confirmation", ["report", "significance", "across-corpora", "ui"]),
    ],
)
def test_each_next_command_is_understood_as_it_is_printed(kind, named, width, options, monkeypatch):
    console = terminal(width)
    next_of(kind, options, console)
    commands = [line for line in steps(console) if line.startswith("ambivalent ")]
    assert [shlex.split(command)[1] for command in commands] == named
    for command in commands:
        _, name, *words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [f"ambivalent {name}", *words])
        parsed = parse(PARSERS[name])
        if "--corpus-root PATH" not in command:
            assert parsed.tracking_uri == options.tracking_uri
        if "--experiment" in words:
            assert parsed.experiment == options.experiment
        if "--study" in words:
            assert parsed.study in (options.name, (options.name,))
        if "--resume" in words:
            assert (parsed.name, parsed.storage_path) == (options.name, options.storage_path)


def test_a_confirmation_names_the_page_that_its_report_command_writes(options, tmp_path):
    console = terminal(80)
    next_of("confirmation", options, console)
    assert (tmp_path / ReportOptions(experiment="x").output / PAGE).as_uri() in steps(console)


def test_steps_are_in_columns_where_they_fit(options):
    lines = [("look", "ambivalent ui"), ("write the report", "ambivalent report --study s")]
    wide, narrow = terminal(47), terminal(46)
    say_next(wide, lines)
    say_next(narrow, lines)
    assert wide.file.getvalue().splitlines()[2:] == [
        "  look              ambivalent ui",
        "  write the report  ambivalent report --study s",
    ]
    assert narrow.file.getvalue().splitlines()[2:] == [
        "  look:",
        "    ambivalent ui",
        "  write the report:",
        "    ambivalent report --study s",
    ]


def test_a_password_is_to_be_put_in(options):
    command = resume_command("study/run.py", replace(options, tracking_uri=URI))
    assert "secret" not in command
    console = terminal(0)
    say_next(console, [("resume", command)])
    assert console.file.getvalue().splitlines()[-1] == "  (put the password in place of ***)"
