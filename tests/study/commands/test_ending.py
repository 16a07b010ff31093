"""Once a study has begun, whatever ends its command is reported with the command that resumes."""

from types import SimpleNamespace

import pytest
from rich.console import Console

from ser.utils.errors import UserError
from study.commands import ending
from study.options import RECORD

RESUME = "python study/run.py --resume --name mine"


@pytest.fixture
def end(tmp_path, monkeypatch, capsys):
    """Return a function that runs a body for a study in ``tmp_path``, and returns exit code and output."""
    monkeypatch.setattr(ending, "resume_command", lambda script, options: f"python {script} --resume --name {options}")
    prepared = SimpleNamespace(folder=tmp_path, options="mine")

    def call(body):
        return ending.resumable("study/run.py", prepared, Console(), body), capsys.readouterr().out

    return call


def raising(error):
    def body():
        raise error

    return body


def test_a_code_is_passed_on(end):
    assert end(lambda: 1) == (1, "")


def test_an_interrupt_says_how_to_resume(end, tmp_path):
    (tmp_path / RECORD).touch()
    code, printed = end(raising(KeyboardInterrupt()))
    assert code == 130
    assert printed.split("\n") == ["", "Interrupted.", "Resume with:", f"  {RESUME}", ""]


def test_an_unexpected_error_keeps_its_traceback_in_the_studys_folder(end, tmp_path):
    (tmp_path / RECORD).touch()
    code, printed = end(raising(ZeroDivisionError("at http://me:secret@host")))
    (log,) = tmp_path.glob("error-*.log")
    assert code == 130
    assert "Stopped: ZeroDivisionError: at http://me:***@host." in printed
    assert str(log) in printed.replace("\n", "")
    assert printed.rstrip().endswith(RESUME)
    assert "in body" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), UserError("y")])
def test_before_a_study_has_begun_there_is_nothing_to_resume(end, error):
    with pytest.raises(type(error)):
        end(raising(error))


def test_a_mistake_of_the_user_stays_one(end, tmp_path):
    (tmp_path / RECORD).touch()
    with pytest.raises(UserError):
        end(raising(UserError("the node has no room")))
