"""A study of two kinds of labels on the real command line, its confirmation, and what the analyses show of it."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
SIZE = (
    "--space cross_entropy --trials 1 --epochs 1 --width 0.03 --batch-size 48 --max-concurrent 1 "
    "--set training.crop_seconds=0.5 training.precision=float32"
)
FITTED = "cross_entropy+dawid_skene"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_labels_are_compared_on_one_truth(tmp_path):
    def call(script, arguments):
        words = [sys.executable, str(ROOT / script), "--experiment", "e2e", *arguments.split()]
        words += ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    # A second study of the same protocol has another level, with the consensus alone.
    call("study/run.py", f"--name noisy --noise symmetric:0.2 {SIZE}")
    text = call("study/run.py", f"--name kinds --noise clean --labels consensus dawid_skene {SIZE}")
    assert "labels dawid_skene: 864 votes of 3 annotators on 288 train utterances, 0 ties, " in text

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("e2e").experiment_id
    runs = client.search_runs([experiment], "tags.study = 'kinds'")
    kinds = {(run.data.tags["kind"], run.data.tags["space"]): run for run in runs}
    assert {key: run.data.tags["labels"] for key, run in kinds.items()} == {
        ("parent", "cross_entropy"): "consensus", ("trial", "cross_entropy"): "consensus",
        ("parent", FITTED): "dawid_skene", ("trial", FITTED): "dawid_skene",
    }  # fmt: skip
    one, other = kinds["trial", "cross_entropy"], kinds["trial", FITTED]
    assert one.data.tags["protocol"] == other.data.tags["protocol"]
    assert one.data.tags["noise.rate"] == other.data.tags["noise.rate"] == "0.0"
    path = client.download_artifacts(kinds["parent", FITTED].info.run_id, "noise_manifest.json", str(tmp_path))
    manifest = json.loads(Path(path).read_text())
    assert manifest["labels"]["kind"] == "dawid_skene"
    assert 0 < manifest["parts"]["train"]["rate"] < 0.4

    call("analysis/best_runs.py", "")
    best = pd.read_csv(tmp_path / "results" / "best_runs" / "best_runs.csv")
    cells = [("clean", "cross_entropy"), ("clean", FITTED), ("symmetric:0.2", "cross_entropy")]
    assert list(best[["noise", "space"]].itertuples(index=False, name=None)) == cells

    text = call("study/confirm.py", "--name confirmed --top 1 --max-concurrent 1")
    assert "Train with --labels dawid_skene." in (
        tmp_path / "results" / "confirm" / "confirmed" / f"clean-{FITTED}.yaml"
    ).read_text().replace("\n# ", " ")
    assert "symmetric:0.2 cross_entropy default" in text
    call("analysis/significance.py", "")
    compared = pd.read_csv(tmp_path / "results" / "significance" / "significance.csv")
    assert FITTED in set(compared.loc[compared["level"] == "clean", "method"])
    text = call("analysis/report.py", "")
    page = (tmp_path / "results" / "report" / "report.html").read_text(encoding="utf-8")
    assert "clean+dawid_skene: labels from annotators&#39; votes, dawid_skene: 864 votes of 3 annotators" in page
    assert "--labels consensus dawid_skene" in page
