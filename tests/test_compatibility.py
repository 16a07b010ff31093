"""What version 0.1 left on disk is still read, resumed and loaded.

``fixtures/v0.1.tar.xz`` was written by version 0.1 (commit 02696d6): three studies on the synthetic corpus at width
1/32, their MLflow database with its artifacts, and a registered model. Study ``finished`` searched two spaces, study
``confirmed`` confirmed them, and study ``interrupted`` was killed in the third of five epochs of its second trial.
"""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest

from ser.checkpoint import open_checkpoint
from ser.predict import predict_waveforms
from study.environment import CODE_ROOT
from study.tracking.opening import open_client
from study.tracking.searches import best_runs, read_trials
from study.tracking.trained_runs import find_trained
from tests.helpers.archived_records import unpack

ARCHIVE = Path(__file__).parent / "fixtures" / "v0.1.tar.xz"
WRITTEN_BELOW = "/tmp/ambivalent-0.1"
REGISTERED_RUN = "4abcc2e203ef494baf7f38b97a60aa4f"
TONE = (0.1 * np.sin(2 * np.pi * 220 * np.arange(16000) / 16000)).astype(np.float32)
# What version 0.1 predicted for the tone, and measured in the last epoch of the interrupted trial once it was resumed.
TONE_PROBABILITIES = [0.128595, 0.26541, 0.054557, 0.097639, 0.404703, 0.049096]
LAST_EPOCH = {
    "train/loss": 1.648018556440042, "val/uar": 0.2708333333333333, "val_noisy/uar": 0.23054226475279105,
    "val/loss": 1.814093577639935,
}  # fmt: skip


@pytest.fixture
def old(tmp_path):
    """The files of version 0.1, below another folder than that in which they were written."""
    return unpack(ARCHIVE, tmp_path, WRITTEN_BELOW)


def uri(folder):
    return f"sqlite:///{folder}/mlflow.db"


def command(folder, script, *arguments):
    return subprocess.run(
        [sys.executable, str(CODE_ROOT / script), *arguments, "--tracking-uri", uri(folder)],
        cwd=folder, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_records_of_a_study_are_read(old):
    client = open_client(uri(old))
    experiment = client.get_experiment_by_name("synthetic").experiment_id
    trials = read_trials(client, experiment, "finished")
    assert sorted(trials.table["status"]) == ["finished"] * 4
    best = best_runs(trials)
    assert dict(zip(best["space"], best["uar"].round(3), strict=True)) == {"cross_entropy": 0.25, "proselflc": 0.24}


def test_a_checkpoint_predicts_what_it_predicted(old):
    trained = find_trained(REGISTERED_RUN, uri(old))
    probabilities = predict_waveforms(open_checkpoint(trained.checkpoint), [TONE])
    assert probabilities[0] == pytest.approx(TONE_PROBABILITIES, abs=2e-6)


def test_a_registered_model_predicts_what_it_predicted(old, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    mlflow.set_tracking_uri(uri(old))
    try:
        model = mlflow.pyfunc.load_model("models:/old/1")
        assert model.predict(TONE[None])[0] == pytest.approx(TONE_PROBABILITIES, abs=2e-6)
    finally:
        mlflow.set_tracking_uri(None)


def test_the_tables_of_confirmed_runs_are_written(old):
    done = command(
        old, "analysis/best_runs.py", "--experiment", "synthetic", "--study", "confirmed", "--output", "best"
    )
    assert done.returncode == 0, done.stderr
    assert "25.0" in (old / "best" / "best_runs_confirmed.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_interrupted_study_ends_with_the_numbers_that_it_would_have_had(old):
    done = command(old, "study/run.py", "--resume", "--name", "interrupted")
    assert done.returncode == 0, done.stdout + done.stderr
    records = next((old / "results" / "studies" / "interrupted").glob("*/trial_002/records.jsonl"))
    lines = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4, 5]
    assert {name: epochs[-1]["metrics"][name] for name in LAST_EPOCH} == LAST_EPOCH
    assert lines[-1]["status"] == "finished"
    client = open_client(uri(old))
    experiment = client.get_experiment_by_name("synthetic").experiment_id
    assert sorted(read_trials(client, experiment, "interrupted").table["status"]) == ["finished", "finished"]


@pytest.mark.slow
def test_the_report_is_written(old):
    done = command(old, "analysis/report.py", "--experiment", "synthetic", "--output", "report", "--audio", "never")
    assert done.returncode == 0, done.stderr
    page = (old / "report" / "report.html").read_text(encoding="utf-8")
    assert "cross_entropy" in page


@pytest.mark.slow
def test_a_study_of_a_network_that_is_a_speech_encoder_now_is_analysed_but_not_resumed(old):
    for record in old.glob("results/studies/*/study.json"):
        record.write_text(record.read_text().replace('"cnn6"', '"wav2vec2_base"').replace('"cnn14"', '"wav2vec2_base"'))
    with sqlite3.connect(old / "mlflow.db") as database:
        database.execute("UPDATE params SET value = 'wav2vec2_base' WHERE key = 'model.name'")
    report = command(old, "analysis/report.py", "--experiment", "synthetic", "--output", "report", "--audio", "never")
    assert report.returncode == 0, report.stderr
    assert "wav2vec2_base" in (old / "report" / "report.html").read_text(encoding="utf-8")
    resumed = command(old, "study/run.py", "--resume", "--name", "interrupted")
    assert resumed.returncode == 2
    assert "wav2vec2_base is hf:facebook/wav2vec2-base now" in resumed.stdout + resumed.stderr
