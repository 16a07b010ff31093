"""The real commands on a confirmation that is tested on another corpus too."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from mlflow import MlflowClient

from ser.corpora import load

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"ang": "Anger", "hap": "joy", "neu": "neutral", "fru": "Frust"}
SIZE = (
    "--noise", "clean", "--epochs", "1", "--width", "0.03", "--batch-size", "48", "--max-concurrent", "1",
    "--set", "training.crop_seconds=0.5", "training.precision=float32",
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with ``calls.csv``: three strangers in four classes, one of which nobody else has."""
    folder = tmp_path_factory.mktemp("across")
    synthetic, rows = load("synthetic"), []
    for row in synthetic.table[synthetic.table["label"].isin(WORDS)].groupby("label").head(6).to_dict("records"):
        name = f"c{len(rows) % 3}-{len(rows):02d}"
        soundfile.write(folder / f"{name}.wav", 0.4 * synthetic.synthesize(row["utterance_id"])[800:], 16000)
        rows.append({"utterance_id": name, "path": f"{name}.wav", "speaker": name[:2], "label": WORDS[row["label"]]})
    pd.DataFrame(rows).to_csv(folder / "calls.csv", index=False)
    return folder


def call(folder, script, *arguments):
    words = [sys.executable, str(ROOT / script), "--tracking-uri", f"sqlite:///{folder}/mlflow.db", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def trials_of(folder, experiment):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], "tags.kind = 'trial'")
    return {(run.data.tags["space"], run.data.tags["fold"]): run for run in runs}


def test_a_confirmation_is_tested_on_another_corpus_and_shown_with_it(folder):
    confirm = ("study/confirm.py", "--space", "cross_entropy", "elr", *SIZE)
    printed = call(folder, *confirm, "--experiment", "both", "--name", "both", "--test-corpus", "table=calls.csv")
    assert (
        "tested on calls too: 3 classes of both corpora (training = calls): ang = Anger, hap = joy, neu = neutral"
        in printed
    )
    assert "18 of 24 utterances of calls, all of them test data; left out: 6 Frust" in " ".join(printed.split())
    assert "analysis/across_corpora.py" in printed or "across-corpora" in printed
    call(folder, *confirm, "--experiment", "alone", "--name", "alone")
    both, alone = trials_of(folder, "both"), trials_of(folder, "alone")
    for key, run in alone.items():  # the test corpus changes nothing in the confirmation itself
        assert both[key].data.metrics["test/last/uar"] == run.data.metrics["test/last/uar"]
        assert both[key].data.tags["protocol"] == run.data.tags["protocol"]

    # A moved file is found where the resuming call says; the finished trainings stay as they are.
    moved = folder / "moved"
    moved.mkdir()
    for file in [folder / "calls.csv", *folder.glob("c?-*.wav")]:
        file.rename(moved / file.name)
    call(folder, "study/confirm.py", "--resume", "--name", "both", "--test-corpus", "table=moved/calls.csv")
    assert {key: run.info.run_id for key, run in trials_of(folder, "both").items()} == {
        key: run.info.run_id for key, run in both.items()
    }

    shown = call(folder, "analysis/across_corpora.py", "--experiment", "both", "--output", "shown")
    assert "tested on calls" in shown
    scores = pd.read_csv(folder / "shown" / "across_corpora.csv").set_index(["tested", "method"])
    recorded = [run.data.metrics["test/calls/uar"] for key, run in both.items() if key[0] == "elr"]
    found = scores.loc[("calls", "elr")]
    assert found["uar"] == pytest.approx(sum(recorded) / len(recorded))  # every network has the same utterances
    assert (found["units"], found["speakers"], found["utterances"], found["classes"]) == (5, 3, 18, 3)
    assert found["low"] <= found["uar"] <= found["high"]

    run = both["elr", "2"]
    call(
        folder, "study/evaluate.py", "--run", run.info.run_id, "--corpus", "table", "--corpus-root", "moved/calls.csv",
        "--output", "scored",
    )  # fmt: skip
    report = json.loads((folder / "scored" / "report.json").read_text())
    assert report["true"]["scores"]["uar"] == pytest.approx(run.data.metrics["test/calls/uar"], abs=1e-6)
    assert report["class_mapping"] == {"ang": "Anger", "hap": "joy", "neu": "neutral"}
