import sys
from collections.abc import Callable, Iterator

import matplotlib
import matplotlib.pyplot as plt
import pytest

from analysis.common.command import run_section
from ser.utils.command_line import run_command
from tests.helpers.made_records import MadeStore, make_store

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def made_store(tmp_path) -> MadeStore:
    """Return a store for one test."""
    return make_store(tmp_path)


@pytest.fixture(scope="session")
def new_made_store(tmp_path_factory) -> Callable[[], MadeStore]:
    """Return a function that makes a store for several tests."""
    return lambda: make_store(tmp_path_factory.mktemp("made"))


@pytest.fixture
def call_section(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a section's command here: name, arguments → exit code, output, error output."""

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        code = run_command(lambda: run_section(name))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
