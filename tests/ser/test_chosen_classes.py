"""Training and evaluation with chosen classes."""

import sys
from pathlib import Path

import pytest
import torch

from ser import evaluate, train
from ser.corpora import __main__ as corpora_command
from ser.utils.command_line import run_command
from tests.helpers.corpus_trees import BUILDERS

SETTINGS = ("model.width=0.03", "training.epochs=1", "training.batch_size=8", "training.crop_seconds=0.5")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command on a small RAVDESS in this process → exit code, stdout and stderr in one line."""
    root = BUILDERS["ravdess"](tmp_path / "ravdess")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(main, *words: str) -> tuple[int, str]:
        corpus = ["--corpus", "ravdess", "--corpus-root", str(root), "--features", str(tmp_path / "features")]
        if main is corpora_command.main:
            corpus = ["describe", "ravdess", "--root", str(root)]
        monkeypatch.setattr(sys, "argv", ["command", *corpus, *words])
        code = run_command(main)
        printed = capsys.readouterr()
        return code, " ".join((printed.out + printed.err).split())

    return run


def test_a_checkpoint_is_evaluated_on_the_classes_that_it_was_trained_on(call, tmp_path: Path) -> None:
    checkpoints = {}
    merged = ("--classes", "happy,x=sad+calm")
    for name, words in (("all", ("--classes", "all")), ("merged", merged)):
        folder = tmp_path / name
        code, said = call(train.main, "--output", str(folder), *words, "--set", *SETTINGS)
        assert code == 0, said
        assert ("classes happy, x (sad + calm): 12 of 32 utterances" in said) == (name == "merged")
        checkpoints[name] = ("--checkpoint", str(folder / "state.pt"))
    # Checkpoints of all classes need no option, as they did when all were the default.
    for words in (checkpoints["all"], (*checkpoints["merged"], *merged)):
        code, said = call(evaluate.main, *words)
        assert code == 0, said
    for words, difference in (
        (checkpoints["merged"], "has 2 classes (happy, x), and corpus 'ravdess' has 6 (neutral, "),
        ((*checkpoints["all"], "--classes", "happy,sad"), "and corpus 'ravdess' has 2 (happy, sad). Pass the same "),
    ):
        code, said = call(evaluate.main, *words)
        assert (code, difference in said, "--classes" in said) == (2, True, True)


def test_a_description_says_which_classes_were_chosen(call) -> None:
    code, said = call(corpora_command.main)
    assert code == 0
    assert "without 4 calm, 4 surprised; --classes all brings all 8 classes" in said
    assert "4 calm, 4 surprised" in said.partition("outside the classes")[2]
    code, said = call(corpora_command.main, "--classes", "all")
    assert (code, "--classes all" in said) == (0, False)
