"""Simulated studies of many trials in one process: no record is lost, and the driver stays fast and small."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from study.schema import FAILED, FINISHED, SELECTIONS, STOPPED
from study.search.journal import JOURNAL, Journal
from study.search.trial_logs import read_logs
from study.setup.spaces import load_space
from study.tracking.opening import open_existing
from study.tracking.store import search_all
from tests.helpers.simulation import GRACE, simulate

EPOCHS = 8


def entries(folder):
    return Journal(folder, load_space("proselflc", {}), SELECTIONS["noisy"], seed=0).entries()


def check(folder, trials, slots, outcome):
    """Assert that every trial has ended once, and that its records agree with the journal."""
    found = entries(folder)
    assert [entry.number for entry in found] == list(range(1, trials + 1))
    assert {entry.status for entry in found} == {FINISHED, STOPPED, FAILED}
    assert outcome.busiest == slots
    logs = read_logs(folder)
    for entry in found:
        log = logs[entry.number]
        epochs = [line["epoch"] for line in log.lines() if line["kind"] == "epoch"]
        assert epochs == list(range(1, len(epochs) + 1))
        assert (log.attempts, log.status, log.last_epoch) == (1, entry.status, entry.epochs)
        assert (entry.epochs == EPOCHS) == (entry.status == FINISHED)
        assert entry.epochs >= GRACE
    return found


@pytest.mark.parametrize("scheduler", ["asha", "median", "hyperband"])
def test_a_study_of_many_slots_ends_every_trial_once(tmp_path, scheduler):
    check(tmp_path, 80, 20, simulate(tmp_path, 80, 20, EPOCHS, scheduler=scheduler, failing=0.1))


def test_one_slot_repeats_itself(tmp_path):
    for name in ("a", "b"):
        simulate(tmp_path / name, 25, 1, EPOCHS)
    assert entries(tmp_path / "a") == entries(tmp_path / "b")


@pytest.mark.slow
def test_a_hundred_trials_on_a_real_ray_are_all_on_record(tmp_path):
    growth = Path(__file__).resolve().parents[3] / "benchmarks" / "growth.py"
    command = [sys.executable, str(growth), "--worker", "ray:study", str(tmp_path), "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = entries(tmp_path)
    assert [(entry.number, entry.status, entry.epochs) for entry in found] == [(n, FINISHED, 5) for n in range(1, 101)]
    logs = read_logs(tmp_path)
    assert [(log.status, log.last_epoch) for log in logs.values()] == [(FINISHED, 5)] * 100
    client = open_existing(f"sqlite:///{tmp_path}/mlflow.db")
    runs = search_all(client, [client.get_experiment_by_name("growth").experiment_id], "")
    assert sorted(run.data.tags["trial"] for run in runs) == [f"{number:03d}" for number in range(1, 101)]
    assert {run.data.tags["status"] for run in runs} == {FINISHED}
    assert json.loads(done.stdout.splitlines()[-1])["state"] < 2


@pytest.mark.slow
def test_two_thousand_trials_on_two_hundred_slots(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = simulate(tmp_path, 2000, 200, EPOCHS)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = check(tmp_path, 2000, 200, outcome)
    size = (tmp_path / JOURNAL).stat().st_size
    print(
        f"suggestion {1000 * median(outcome.latencies):.0f} ms, the last hundred "
        f"{1000 * median(outcome.latencies[-100:]):.0f} ms; memory grew by {grown:.0f} MB; journal "
        f"{size / 1e6:.1f} MB; {sum(entry.status == STOPPED for entry in found)} stopped"
    )
    # Far above the measured times (docs/faults.md), far below those of a suggestion that reads all trials again.
    assert median(outcome.latencies) < 1.0
    assert grown < 500
    assert size < 2000 * 20_000
