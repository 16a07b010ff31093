"""A study on a tiny speech encoder with random weights, frozen and fine-tuned: killed, resumed, and confirmed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from study.environment import CODE_ROOT
from tests.helpers.tiny_encoders import tiny_encoder

pytestmark = pytest.mark.slow

OF_STUDY = (
    "--space", "proselflc", "--noise", "symmetric:0.3", "--trials", "2", "--epochs", "12", "--batch-size", "48",
    "--max-concurrent", "1",
)  # fmt: skip
WAYS = {"frozen": ("model.layers=2",), "fine-tuned": ("model.freeze=convolutions", "model.frozen_layers=1")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_encoder(folder / "tiny")
    return folder


@pytest.fixture(scope="module", params=WAYS)
def study(request: pytest.FixtureRequest, folder: Path) -> str:
    """Run a study to its end, and return its name."""
    call(folder, request.param)
    return str(request.param)


def command(folder: Path, name: str, *more: str) -> list[str]:
    way = next(way for way in WAYS if name.startswith(way))
    settings = ("--set", "training.crop_seconds=0.5", "training.precision=float32", *WAYS[way])
    arguments = [*OF_STUDY, "--model", "hf:tiny", *settings, "--name", name, "--experiment", name, *more]
    uri = f"sqlite:///{folder}/mlflow.db"
    return [sys.executable, str(CODE_ROOT / "study" / "run.py"), "--tracking-uri", uri, *arguments]


def call(folder: Path, name: str, *more: str) -> None:
    done = subprocess.run(
        command(folder, name, *more), cwd=folder, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr


def trials_of(folder: Path, experiment: str) -> list[Any]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return [run for run in found if run.data.tags["kind"] == "trial"]


def numbers(folder: Path, experiment: str) -> dict[tuple[str, ...], Any]:
    return {
        tuple(run.data.tags.get(tag, "") for tag in ("stage", "trial")): (
            run.data.params,
            {name: value for name, value in run.data.metrics.items() if name.startswith(("train/loss", "val"))},
        )
        for run in trials_of(folder, experiment)
    }


def test_a_study_that_is_killed_ends_with_the_numbers_of_one_that_is_not(folder: Path, study: str) -> None:
    name = f"{study}-killed"
    process = subprocess.Popen(command(folder, name), cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)
    records = folder / "results" / "studies" / name
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if sum(path.read_text().count('"kind": "epoch"') for path in records.glob("*/trial_*/records.jsonl")) >= 4:
            break
        time.sleep(0.02)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    call(folder, name, "--resume")
    assert numbers(folder, name) == numbers(folder, study)


def test_a_confirmation_trains_with_the_version_of_the_search(folder: Path, study: str) -> None:
    words = ["--study", study, "--experiment", study, "--top", "1", "--max-concurrent", "2"]
    script = [
        sys.executable,
        str(CODE_ROOT / "study" / "confirm.py"),
        "--tracking-uri",
        f"sqlite:///{folder}/mlflow.db",
    ]
    done = subprocess.run([*script, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = {run.data.tags["stage"] for run in trials_of(folder, study)}
    revisions = {run.data.params["model.revision"] for run in trials_of(folder, study)}
    assert stages == {"search", "confirm"}
    assert len(revisions) == 1
    assert revisions != {""}
