"""Tests of the options of study/evaluate.py."""

import sys

import pytest

from ser.utils.command_line import parse
from study.commands.evaluate import EvaluateRunOptions


@pytest.mark.parametrize("option", ["--subset", "--part"])  # --part is the name of the option in version 0.1
def test_the_subset_is_chosen_by_either_spelling(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "--run", "0", option, "test"])
    assert parse(EvaluateRunOptions).subset == "test"
