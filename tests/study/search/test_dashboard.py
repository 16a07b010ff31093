"""Tests of the file for optuna-dashboard: each search under its name, from which the searches do not depend."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from study.search.journal import DASHBOARD, JOURNAL, write_for_dashboard
from tests.study.search.test_journal import JOURNAL_OF_VERSION_0_1, searched

DASHBOARD_COMMAND = Path(sys.executable).with_name("optuna-dashboard")


def shown(folder):
    """Return the trials of each search in the file, through Optuna's public interface."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / DASHBOARD)))
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}


def test_the_file_has_each_search_under_its_name_and_changes_no_journal(tmp_path):
    searches = {name: tmp_path / name.replace(" ", "--") for name in ("proselflc clean", "proselflc noisy-A")}
    for seed, folder in enumerate(searches.values()):
        searched(folder, 3, seed=seed)
    before = {folder: (folder / JOURNAL).read_bytes() for folder in searches.values()}
    searches["proselflc noisy-B"] = tmp_path / "not-begun"
    write_for_dashboard(tmp_path, searches)
    first = shown(tmp_path)
    assert {name: len(trials) for name, trials in first.items()} == {"proselflc clean": 3, "proselflc noisy-A": 3}
    assert {folder: (folder / JOURNAL).read_bytes() for folder in before} == before
    searched(searches["proselflc clean"], 5, seed=0)  # extended in a later session
    write_for_dashboard(tmp_path, searches)
    second = shown(tmp_path)
    assert len(second["proselflc clean"]) == 5
    assert [(t.params, t.value, t.state, t.intermediate_values) for t in second["proselflc noisy-A"]] == [
        (t.params, t.value, t.state, t.intermediate_values) for t in first["proselflc noisy-A"]
    ]
    assert not (tmp_path / "not-begun").exists()
    assert not list(tmp_path.glob("*.making"))


def test_journals_of_version_0_1_can_be_shown(tmp_path):
    (tmp_path / "old").mkdir()
    shutil.copy(JOURNAL_OF_VERSION_0_1, tmp_path / "old" / JOURNAL)
    write_for_dashboard(tmp_path, {"proselflc noisy-A": tmp_path / "old"})
    assert [trial.state.name for trial in shown(tmp_path)["proselflc noisy-A"]][:2] == ["COMPLETE", "FAIL"]


@pytest.mark.slow
def test_the_dashboard_shows_the_searches(tmp_path):
    searched(tmp_path / "a", 3)
    write_for_dashboard(tmp_path, {"proselflc noisy-A": tmp_path / "a"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [str(DASHBOARD_COMMAND), str(tmp_path / DASHBOARD), "--port", address.rpartition(":")[2]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answer(path):
        with urllib.request.urlopen(f"{address}/api/{path}", timeout=20) as found:
            return json.load(found)

    try:
        deadline, found = time.monotonic() + 120, None
        while found is None and time.monotonic() < deadline:
            time.sleep(0.2)
            with suppress(OSError):
                found = answer("studies")["study_summaries"]
        assert [study["study_name"] for study in found] == ["proselflc noisy-A"]
        trials = answer(f"studies/{found[0]['study_id']}?after=0")["trials"]
        assert [trial["state"] for trial in trials] == ["Complete"] * 3
    finally:
        server.terminate()
        server.wait(30)
