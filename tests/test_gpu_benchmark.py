"""The benchmark of the GPU path runs on a CPU with tiny settings, without Ray, MLflow and the audio libraries."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ser.losses import LOSSES

ROOT = Path(__file__).resolve().parents[1]

# Runs a script as if some packages were not installed.
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys(("ray", "mlflow", "optuna", "tyro", "soxr", "soundfile", "sklearn", "librosa")))
sys.argv = sys.argv[1:]
sys.path[0] = ""
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    command = ["benchmarks/gpu.py", "--device", "cpu", "--small", "--output", str(folder)]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def parts(output):
    found = json.loads((output / "gpu.json").read_text(encoding="utf-8"))["parts"]
    assert {name: part["error"] for name, part in found.items() if part["error"]} == {}
    return {name: part["rows"] for name, part in found.items()}


def test_every_part_that_needs_no_gpu_has_rows_without_errors(parts):
    assert set(parts) == {"machine", "losses", "train", "determinism", "steps", "sharing"}
    assert all(parts.values())
    assert [row for rows in parts.values() for row in rows if "error" in row] == []


def test_every_loss_and_its_gradients_are_those_of_the_cpu(parts):
    assert [row["loss"] for row in parts["losses"]] == list(LOSSES)
    for row in parts["losses"]:
        assert max(row["difference"], row["of_gradient"], row["of_a_tensor"]) < 1e-5, row


def test_steps_have_speeds_and_training_has_scores(parts):
    assert all(row["clips_per_second"] > 0 and row["ratio"] > 0 for row in parts["steps"][1:])
    assert [row["processes"] for row in parts["sharing"]] == [1, 2]
    assert all(0 <= row["val/uar"] <= 1 and row["rows_of_table"] == 96 for row in parts["train"])
    assert all(row["equal"] for row in parts["determinism"])


def test_the_tables_are_written(output):
    text = (output / "gpu.md").read_text(encoding="utf-8")
    assert "**losses**" in text
    assert "| proselflc |" in text
