"""A study and its confirmation, on the real command line, after the file of a space has changed."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TINY = (
    "--noise clean --epochs 1 --width 0.03 --batch-size 48 --max-concurrent 1 "
    "--set training.crop_seconds=0.5 training.precision=float32"
)
TEXT = """'''Mine, 2026.'''
POINTS = []
def SPACE(trial):
    trial.suggest_float("optimizer.lr", 1e-3, {high})
    if trial.study.study_name == "search" and trial.number == 1:
        raise KeyError("lr")
    return {{"loss.name": "{loss}"}}
"""


@pytest.fixture
def call(tmp_path):
    """Return a function that runs a script in a folder of its own, and returns exit code and output."""

    def run(script, arguments):
        command = [sys.executable, str(ROOT / "study" / script), *arguments.split()]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        text = " ".join((done.stdout + done.stderr).split())
        assert "Traceback" not in text
        return done.returncode, text

    return run


def digests(folder):
    """Return the contents of spaces in the records, with the number of runs of each."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        query = "select value, count(*) from tags where key = 'space.digest' group by value"
        return dict(store.execute(query).fetchall())


@pytest.mark.slow
def test_a_changed_space_stops_a_resume_and_a_confirmation_and_is_widened_on_purpose(tmp_path, call):
    path = tmp_path / "mine.py"
    path.write_text(TEXT.format(high=0.01, loss="cross_entropy"))
    assert call("run.py", f"--name a --space mine.py --trials 1 {TINY}")[0] == 0
    (begun,) = digests(tmp_path)

    path.write_text(TEXT.format(high=0.01, loss="focal"))
    resume, confirm = "--resume --name a --trials 3", "--reference mine --top 1 --plan"
    code, text = call("run.py", resume)
    assert code == 2
    assert "space 'mine' has changed since study 'a' began: loss.name: = 'cross_entropy' → = 'focal'" in text
    code, text = call("confirm.py", confirm)
    assert code == 2
    assert "space 'mine' has changed since study 'a' searched it: loss.name: = 'cross_entropy' → = 'focal'" in text
    path.unlink()
    code, text = call("confirm.py", confirm)
    assert code == 2
    assert f"study 'a' searched the file '{path}', which does not exist any more. Restore it there" in text

    path.write_text(TEXT.format(high=0.1, loss="cross_entropy"))
    assert "Or add --widen" in call("run.py", resume)[1]
    code, text = call("run.py", f"{resume} --widen")
    # The second suggestion raises: that trial fails with the reason, and the third one is trained.
    assert code == 1
    assert "trial 002: space 'mine': its function raises KeyError: 'lr' (line 6)" in text
    assert digests(tmp_path).keys() == {begun}
    spaces = json.loads((tmp_path / "results" / "studies" / "a" / "study.json").read_text())["spaces"]
    assert spaces["mine"]["digest"] == begun
    assert spaces["mine"]["content"]["domains"]["optimizer.lr"][0]["attributes"]["high"] == 0.1
    # A confirmation finds the file by its path, and takes the wider space for that of the search.
    code, text = call("confirm.py", confirm)
    assert code == 0
    assert "clean mine search-1" in text
