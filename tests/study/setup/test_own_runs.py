"""A resumed study takes only runs that are its own: not those of a namesake, nor of a copy that is still there."""

import shutil

import pytest

from ser.utils.errors import UserError
from study.options import StudyOptions
from study.schema import FINISHED
from study.setup.prepare import open_records
from study.tracking.event_log import EventLog
from study.tracking.opening import experiment_id, open_client
from study.tracking.upload import Delivery, SearchRuns, deliver
from tests.helpers.trial_context import DATASET


@pytest.fixture
def study(tmp_path):
    """Return the options of a study with one trial, whose run is on record."""
    uri = f"sqlite:///{tmp_path}/m.db"
    options = StudyOptions(name="a", storage_path=tmp_path / "out", tracking_uri=uri, experiment="e", resume=True)
    client = open_client(uri)
    record(options, client, experiment_id(client, uri, "e"))
    return options


def record(options, client, experiment):
    log = EventLog(options.folder / "elr--noisy-A" / "trial_001")
    log.begin({}, {}, DATASET)
    log.end(FINISHED)
    key = {"study": options.name, "space": "elr", "noise": "noisy-A"}
    deliver(Delivery(1, log, SearchRuns(experiment, "parent", key)), client)


def moved(options, folder):
    return StudyOptions(name="a", storage_path=folder, tracking_uri=options.tracking_uri, experiment="e", resume=True)


def test_its_own_runs_are_taken_also_after_a_move(study, tmp_path):
    assert open_records(study).client.get_experiment_by_name("e")
    study.storage_path.rename(tmp_path / "elsewhere")
    open_records(moved(study, tmp_path / "elsewhere"))
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    open_records(moved(study, tmp_path / "link"))


def test_a_copy_of_the_same_name_is_refused_while_the_first_is_there(study, tmp_path):
    shutil.copytree(study.storage_path, tmp_path / "copy")
    with pytest.raises(UserError, match="belong to another folder, which is still there"):
        open_records(moved(study, tmp_path / "copy"))
    shutil.rmtree(study.storage_path)
    open_records(moved(study, tmp_path / "copy"))


@pytest.mark.parametrize("begun", [False, True])
def test_a_namesake_on_another_machine_is_refused(study, tmp_path, begun):
    """Let the folder of the runs be one that is not here."""
    study.storage_path.rename(tmp_path / "gone")
    other = moved(study, tmp_path / "own")
    if begun:
        EventLog(other.folder / "elr--noisy-A" / "trial_001").begin({}, {}, DATASET)
    with pytest.raises(UserError, match="runs of another study named 'a': trial 001 of elr at noisy-A"):
        open_records(other)
