"""A study under faults ends with the records of an undisturbed one. Takes minutes; benchmarks/faults.py repeats it."""

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from benchmarks import faults
from tests.helpers.faulty_study import FaultyStudy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    study = FaultyStudy(tmp_path_factory.mktemp("undisturbed"), "undisturbed")
    study.finish()
    return study.histories()


def unharmed(row, *, to_the_digit=True):
    if row is None:
        pytest.skip("needs the right to mount, or to make network namespaces")
    counts = [row[key].split(" of ") for key in ("trials", "runs", "points")]
    assert all(there == expected for there, expected in counts), row
    assert (row["lost"], row["doubled"]) == (0, 0), row
    if to_the_digit:
        assert row["other values"] == 0, row


def test_sigkill(tmp_path, reference):
    unharmed(faults.sigkills(tmp_path, 3, random.Random(1), reference))


def test_the_tracking_server_away(tmp_path, reference):
    unharmed(faults.outages(tmp_path, 1, random.Random(1), reference))


def test_a_full_disk(tmp_path, reference):
    unharmed(faults.full_disk(tmp_path, reference))


def test_a_torn_checkpoint(tmp_path, reference):
    unharmed(faults.torn(tmp_path, reference))


def test_a_clock_set_back(tmp_path, reference):
    unharmed(faults.clock_step(tmp_path, reference))


def test_a_lost_node(tmp_path, reference):
    # Two slots: what a suggestion is based on depends on which trial ends first.
    unharmed(faults.lost_nodes(tmp_path, 1, random.Random(1), reference), to_the_digit=False)


def test_a_node_cut_off_that_comes_back(tmp_path, reference):
    unharmed(faults.cut_off(tmp_path, reference), to_the_digit=False)


def test_a_store_emptied_or_exchanged_gets_everything_once(tmp_path, reference):
    unharmed(faults.emptied_store(tmp_path, reference))
    unharmed(faults.other_store(tmp_path, reference))


def test_a_study_copied_moved_or_renamed(tmp_path, reference):
    unharmed(faults.copied(tmp_path, reference))
    unharmed(faults.moved(tmp_path, reference))


def test_runs_deleted_while_the_study_runs(tmp_path, reference):
    unharmed(faults.deleted_runs(tmp_path, reference))


def test_one_of_two_gpus_broken(tmp_path, reference):
    unharmed(faults.broken_gpu(tmp_path, reference), to_the_digit=False)


def test_the_studys_process_killed_alone(tmp_path, reference):
    unharmed(faults.driver_alone(tmp_path, 1, random.Random(1), reference))


def test_a_finished_study_is_extended_and_a_time_budget_only_delays(tmp_path, reference):
    study = FaultyStudy(tmp_path / "budget", "budget")
    printed = ""
    for _ in range(15):
        process = study.start("--time-budget", "12s")
        printed, _ = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == 130, printed
        assert "The time budget of 12s is used up. Resume with:" in printed
    assert study.histories() == reference
    extended = study.finish("--trials", "5")
    assert "5 trials" in extended
    after = study.histories()
    assert {number: after[number] for number in reference} == reference
    assert sorted(after) == ["001", "002", "003", "004", "005"]


def test_a_plan_is_printed_and_leaves_no_files(tmp_path):
    study = FaultyStudy(tmp_path / "plan", "plan")
    process = study.start("--plan")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert "3 trials, 15 epochs" in printed
    assert " of checkpoints" in printed
    assert "MB of features, built now, and kept" in printed
    assert study.trials == []
    assert not (study.storage / "studies" / "plan").exists()
    study.finish()


def test_a_password_in_the_tracking_uri_is_written_nowhere(tmp_path):
    """Look for it on the console, in the study's folder, in the records, and in Ray's logs."""
    server = faults.Server(tmp_path / "server")
    server.start()
    ray_folder = Path(tempfile.mkdtemp(prefix="r"))  # a short path, because of Ray's sockets
    try:
        study = FaultyStudy(
            tmp_path / "secret", "secret", server.uri.replace("http://", "http://me:s3cret@"),
            environment={**os.environ, "RAY_TMPDIR": str(ray_folder)},
        )  # fmt: skip
        process = study.start()
        study.wait_for_epochs(process, 2)
        server.kill()  # error messages often contain the address that did not answer
        study.wait_for_epochs(process, 6)
        server.start()
        printed, _ = process.communicate(timeout=600)
        assert process.returncode == 0, printed
        assert "http://me:***@" in printed
        logs = list(ray_folder.rglob("*.log"))
        assert logs
        files = [path for folder in (tmp_path, ray_folder) for path in folder.rglob("*") if path.is_file()]
        guilty = [str(path) for path in files if b"s3cret" in path.read_bytes()]
        assert not guilty
        assert "s3cret" not in printed
    finally:
        server.kill()
        shutil.rmtree(ray_folder, ignore_errors=True)
