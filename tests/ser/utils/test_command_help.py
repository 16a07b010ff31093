"""Help texts and wrong options of all commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ser.config_file import settings_as_options
from ser.train import TrainOptions
from ser.utils.command_help import command_help, options_of
from ser.utils.command_line import parse, run_command
from ser.utils.command_names import COMMANDS
from study.options import ConfirmOptions, StudyOptions, instead_of_unknown
from tests.test_docs import OPTIONS, options

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_option_has_a_text_and_the_help_fits_into_80_columns(kind):
    text = command_help("python study/run.py", kind, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "None" not in text
    known = options_of(kind)
    assert all(option.about for option in known)
    assert {option.flags[-1] for option in known if option.is_named} == {*re.findall(r"^  (--[a-z-]+)", text, re.M)}


def test_many_options_are_in_groups_with_their_values_and_defaults():
    text = command_help("python study/run.py", StudyOptions, 80)
    titles = re.findall(r"^([a-z ]+):$", text, re.M)
    assert titles == ["data", "noise and labels", "training", "search", "resources", "records", "this call", "examples"]
    assert "--sampler tpe|gp|cmaes|qmc|random" in text
    assert "confirmation" in re.findall(r"^([a-z ]+):$", command_help("x", ConfirmOptions, 80), re.M)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_have_options_that_exist(name):
    command = COMMANDS[name]
    shown = {f"--{word}" for example in command.examples for word in re.findall(r"(?<!\S)--([a-z-]+)", example)}
    assert shown <= options()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("called", "shown"),
    [
        (["study/remove.py"], "python study/remove.py"),
        (["-m", "ser.train"], "python -m ser.train"),
        (["-m", "ser.models"], "python -m ser.models"),
        (["-m", "ambivalent_ser", "train"], "ambivalent train"),
    ],
)
def test_the_help_names_the_command_as_it_was_typed(called, shown):
    done = subprocess.run([sys.executable, *called, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {shown} ")
    assert f"  {shown} " in done.stdout.partition("examples:")[2]


def wrong(kind, instead, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", *words.split()])
    assert run_command(lambda: bool(parse(kind, instead))) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--width 0.25", "error: unknown option --width. Write --set model.width=0.25"),
        ("--batch-size=8", "error: unknown option --batch-size. Write --set training.batch_size=8"),
        ("--epochs", "error: unknown option --epochs. Write --set training.epochs=VALUE"),
        ("--loss elr", "error: unknown option --loss. Write --set loss.name=elr"),
        ("--corpsu x", "error: unknown option --corpsu. Did you mean --corpus?"),
        ("--seed x", "error: --seed 'x' is not a whole number."),
        ("--split-by x", "error: --split-by 'x' is unknown. Expected is one of auto, official, session, speaker."),
        ("--output", "error: --output needs a value."),
        ("--seed 1 --seed 2", "error: --seed is given twice. Put all its values after one --seed."),
        ("--resume yes", "error: Unrecognized options: yes. x --help lists the options."),
    ],
)
def test_a_wrong_option_is_one_message_with_what_to_write(words, said, monkeypatch, capsys):
    assert wrong(TrainOptions, settings_as_options(), words, monkeypatch, capsys) == said


@pytest.mark.parametrize(("words", "said"), [("--lr 0.1", "--set optimizer.lr=0.1"), ("--loss elr", "--space elr")])
def test_a_study_names_what_it_takes_instead(words, said, monkeypatch, capsys):
    assert wrong(StudyOptions, instead_of_unknown(), words, monkeypatch, capsys).endswith(f". Write {said}")


def test_a_default_of_zero_is_shown():
    about = " ".join(command_help("x", StudyOptions, 80).split())
    assert "--seed INT Seed of the search, the noise draw and the training. Default: 0." in about
