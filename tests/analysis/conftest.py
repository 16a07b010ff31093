import sys
from collections.abc import Callable

import matplotlib
import pytest

from analysis.common.command import section_command
from ser.utils.command_line import run_command
from tests.helpers.made_records import MadeStore, make_store

matplotlib.use("agg")


@pytest.fixture
def made_store(tmp_path) -> MadeStore:
    """A store for one test."""
    return make_store(tmp_path)


@pytest.fixture(scope="session")
def new_made_store(tmp_path_factory) -> Callable[[], MadeStore]:
    """Makes stores that several tests read."""
    return lambda: make_store(tmp_path_factory.mktemp("made"))


@pytest.fixture
def call_section(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs the command of a section in this process: name, arguments → exit code, standard output, standard error."""

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        code = run_command(section_command(name))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
