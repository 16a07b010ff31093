"""Test of the study on RAVDESS; skipped where RAVDESS is not available."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RAVDESS = os.environ.get("SER_RAVDESS_ROOT")


@pytest.mark.skipif(not RAVDESS, reason="SER_RAVDESS_ROOT does not name a RAVDESS tree")
def test_a_study_of_ravdess_at_exact_noise_rates(tmp_path):
    done = subprocess.run(
        [
            sys.executable, ROOT / "study" / "run.py", "--corpus", "ravdess", "--corpus-root", Path(RAVDESS).resolve(),
            "--space", "cross_entropy", "--noise", "noisy-B", "--trials", "1", "--epochs", "1", "--width", "0.03",
            "--batch-size", "64", "--set", "training.crop_seconds=1", "--storage-path", tmp_path / "out",
            "--tracking-uri", f"sqlite:///{tmp_path}/m.db",
        ],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1056 utterances, 24 speakers, 6 classes" in done.stdout
    assert "--classes all brings all 8 classes" in done.stdout
    # 318 of 792 and 53 of 132 are the numbers of labels closest to 40.19 %. RAVDESS has no votes.
    assert "noisy-B: human, realised: train 40.15%, validation 40.15%" in done.stdout
    (validation,) = re.findall(r"validation \(Actor_(\d\d), Actor_(\d\d), Actor_(\d\d)\)", done.stdout)
    assert {int(actor) % 2 for actor in validation} == {0, 1}  # of both genders
