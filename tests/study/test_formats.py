"""A study, its resumption after the data were moved, and a prediction, on each format that data of one's own have."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ser.corpora import FORMATS, load
from tests.helpers.corpus_trees import BUILDERS

ROOT = Path(__file__).resolve().parents[2]
STUDY = (
    "--space", "cross_entropy", "--noise", "clean", "--trials", "1", "--epochs", "1", "--width", "0.03",
    "--batch-size", "48", "--set", "training.crop_seconds=0.5", "training.precision=float32",
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def call(folder: Path, script: str, *arguments: str | Path) -> str:
    """Run a script in a folder; return what it prints."""
    words = [sys.executable, str(ROOT / "study" / script), *map(str, arguments)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", FORMATS)
def test_a_study_a_resumption_and_a_prediction(name: str, tmp_path: Path) -> None:
    root = BUILDERS[name](tmp_path / "here")
    classes = load(name, root).classes
    common = ("--name", "own", "--max-concurrent", "1")
    printed = call(tmp_path, "run.py", "--corpus", name, "--corpus-root", root, *STUDY, *common)
    assert f"{name}: {len(load(name, root))} utterances" in printed

    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / root.relative_to(tmp_path / "here")
    call(tmp_path, "run.py", "--resume", *common, "--corpus-root", moved, "--trials", "2")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name != 'Default'")
    assert experiment.name == (root.stem if name == "table" else root.name)
    trials = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    assert [run.data.tags["status"] for run in trials] == ["finished"] * 2

    audio = load(name, moved).table["path"][0]
    call(tmp_path, "predict.py", "--run", trials[0].info.run_id, audio, "--output", "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["file"] == audio
    assert row["predicted"] in classes
    assert sum(float(row[f"p_{label}"]) for label in classes) == pytest.approx(1, abs=1e-5)
