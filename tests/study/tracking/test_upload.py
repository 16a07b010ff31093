"""Tests that event logs arrive in MLflow: once per store, complete, in order, whatever happens to the store."""

import shutil
import threading
import time

import pytest
from mlflow.exceptions import MlflowException

from study.schema import FAILED, FINISHED, STOPPED
from study.tracking.event_log import EventLog
from study.tracking.opening import experiment_id, open_client
from study.tracking.store import search_all, sweep
from study.tracking.upload import Courier, Delivery, deliver, stored
from study.trial.specification import artifact_event, epoch_event, tags_event
from tests.helpers.trial_context import DATASET, deliver_all, runs_of

STUDY = "it's"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Create a database, which takes seconds; each test gets a copy."""
    path = tmp_path_factory.mktemp("database") / "m.db"
    uri = f"sqlite:///{path}"
    experiment_id(open_client(uri), uri, "e")
    return path


def open_copy(database, path):
    shutil.copy(database, path)
    uri = f"sqlite:///{path}"
    client = open_client(uri)
    return client, experiment_id(client, uri, "e")


@pytest.fixture
def store(tmp_path, database):
    return open_copy(database, tmp_path / "m.db")


@pytest.fixture
def begun(store, tmp_path):
    """Return a function that makes a trial that has begun, and of which the store has nothing."""

    def make(number=1):
        log = EventLog(tmp_path / "search" / f"trial_{number:03d}")
        begin(log)
        return Delivery(number, log, runs_of(store[1], STUDY))

    return make


def begin(log):
    log.begin({"seed": "0"}, {"optimizer.lr": 1e-3, "loss.target_gradient": False, "loss.name": "focal"}, DATASET)


def epochs(delivery, *numbers, **metrics):
    for number in numbers:
        delivery.log.take([epoch_event(number, metrics or {"train/loss": 3.0 - number})])


def points(client, run_id, metric="train/loss"):
    return [(point.step, point.value) for point in client.get_metric_history(run_id, metric)]


class Flaky:
    """Client that loses the server: after a number of calls each one fails, before or after it takes effect."""

    def __init__(self, client, calls, carried_out):
        self._client, self._left, self._carried_out = client, calls, carried_out

    def __getattr__(self, name):
        real = getattr(self._client, name)

        def call(*arguments, **options):
            self._left -= 1
            if self._left >= 0:
                return real(*arguments, **options)
            if self._carried_out and self._left == -1:
                real(*arguments, **options)
            raise MlflowException("the connection was lost")

        return call


def whole_trial(begun):
    """Return a trial that has failed, continued and finished, with everything that a log can hold."""
    trial = begun()
    trial.log.take([tags_event({"hardware.cpu": "x"})])
    epochs(trial, 1)
    (trial.log.folder / "table.txt").write_text("x")
    trial.log.take([artifact_event("table.txt", b"x")])
    epochs(trial, 2)
    trial.log.end(FAILED, "worker died at http://me:s3cret@host")
    begin(trial.log)
    epochs(trial, 3)
    trial.log.end(FINISHED)
    return trial


def check_whole(client, experiment):
    (run,) = search_all(client, [experiment], "")
    assert points(client, run.info.run_id) == [(1, 2.0), (2, 1.0), (3, 0.0)]
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", FINISHED)
    assert "failure" not in run.data.tags
    assert run.data.tags["hardware.cpu"] == "x"
    assert run.data.tags["mlflow.parentRunId"] == "parent"
    assert run.data.tags["mlflow.runName"] == f"trial 001 · noisy-A cross_entropy · {STUDY}"
    assert run.data.params == {"optimizer.lr": "0.001", "loss.target_gradient": "false", "loss.name": "focal"}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["table.txt"]
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["d"]
    return run


def test_records_arrive_complete_and_in_order(begun, store):
    trial = whole_trial(begun)
    deliver(trial, store[0])
    run = check_whole(*store)
    assert run.data.tags["records"] == str(len(trial.log)) == "9"
    assert trial.pending == 0
    assert trial.run_id == run.info.run_id


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("calls", range(18))
def test_a_server_lost_at_any_call_doubles_and_loses_nothing(begun, store, calls, carried_out):
    """Fail at every call, also after the call was carried out, so that only its answer is lost."""
    trial = whole_trial(begun)
    with pytest.raises(MlflowException):
        deliver(trial, Flaky(store[0], calls, carried_out))
    assert trial.pending > 0
    deliver_all(trial.log.folder.parent, trial.search, store[0])  # another process
    check_whole(*store)


def test_the_calls_of_the_test_above_are_all(begun, store):
    """Count the calls of a delivery, so that each of them has been lost there."""
    calls = []

    class Counting:
        def __getattr__(self, name):
            calls.append(name)
            return getattr(store[0], name)

    deliver(whole_trial(begun), Counting())
    assert len(calls) == 18


def test_delivering_all_of_it_again_changes_nothing(begun, store):
    client, experiment = store
    trial = whole_trial(begun)
    deliver(trial, client)
    client.delete_tag(trial.run_id, "records")  # as in studies of earlier versions
    (again,) = deliver_all(trial.log.folder.parent, trial.search, client)
    assert again.pending == 0
    check_whole(client, experiment)


# Another store, an emptied one, an old copy, deleted runs.


def test_another_store_gets_everything_and_the_first_one_nothing_twice(begun, store, database, tmp_path):
    trial = whole_trial(begun)
    deliver(trial, store[0])
    other = open_copy(database, tmp_path / "other.db")
    deliver_all(trial.log.folder.parent, runs_of(other[1], STUDY), other[0])
    check_whole(*other)
    asked = []

    class Counting:
        def __getattr__(self, name):
            asked.append(name)
            return getattr(store[0], name)

    deliver_all(trial.log.folder.parent, trial.search, Counting())
    assert asked == ["search_runs"]
    check_whole(*store)


def test_an_old_copy_of_the_store_gets_what_it_lacks(begun, store, database, tmp_path):
    client, _ = store
    trial = begun()
    epochs(trial, 1)
    deliver(trial, client)
    shutil.copy(tmp_path / "m.db", tmp_path / "copy.db")
    epochs(trial, 2)
    trial.log.end(FINISHED)
    deliver(trial, client)
    copy = open_client(f"sqlite:///{tmp_path}/copy.db")
    deliver_all(trial.log.folder.parent, trial.search, copy)
    assert points(copy, trial.run_id) == points(client, trial.run_id) == [(1, 2.0), (2, 1.0)]
    assert copy.get_run(trial.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("when", ["running", "ended"])
def test_a_deleted_run_is_made_anew_with_all_of_its_records(begun, store, when):
    """Delete the run of a trial, as one can in MLflow's pages, while it runs or after it has ended."""
    client, _ = store
    trial = begun()
    epochs(trial, 1)
    if when == "ended":
        trial.log.end(FINISHED)
    deliver(trial, client)
    first = trial.run_id
    client.delete_run(first)
    if when == "running":  # the same process continues
        epochs(trial, 2)
        deliver(trial, client)
    else:
        (trial,) = deliver_all(trial.log.folder.parent, trial.search, client)
    assert trial.run_id != first
    assert points(client, trial.run_id) == [(1, 2.0), (2, 1.0)][: len(trial.log) - (2 if when == "ended" else 1)]
    assert client.get_run(first).info.lifecycle_stage == "deleted"


def test_runs_follow_their_parent_and_their_folder(begun, store, tmp_path):
    """Create the parent again, and move the study."""
    client, experiment = store
    trial = begun()
    deliver(trial, client)
    moved = tmp_path / "moved" / "trial_001"
    shutil.copytree(trial.log.folder, moved)
    stored(client, runs_of(experiment, STUDY, "another"), {1: EventLog(moved)})
    tags = client.get_run(trial.run_id).data.tags
    assert (tags["mlflow.parentRunId"], tags["folder"]) == ("another", str(moved))


def test_a_copied_study_under_another_name_has_runs_of_its_own(begun, store, tmp_path):
    client, experiment = store
    trial = whole_trial(begun)
    deliver(trial, client)
    shutil.copytree(trial.log.folder, tmp_path / "copy" / "trial_001")
    (copied,) = deliver_all(tmp_path / "copy", runs_of(experiment, "copy"), client)
    assert copied.run_id != trial.run_id
    assert client.get_run(copied.run_id).data.tags["study"] == "copy"
    assert points(client, copied.run_id) == points(client, trial.run_id)
    assert client.get_run(trial.run_id).data.tags["folder"] == str(trial.log.folder)


def test_what_is_stored_is_noted_only_then_whatever_the_environment_says(begun, store, monkeypatch):
    """Let MLflow log in the background: the delivery does not trust it."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    client, experiment = store
    asked = []

    class Watching:
        def __getattr__(self, name):
            real = getattr(client, name)

            def call(*arguments, **options):
                if name in ("log_batch", "set_tag"):
                    asked.append(options.get("synchronous"))
                return real(*arguments, **options)

            return call

    trial = whole_trial(begun)
    deliver(trial, Watching())
    assert asked
    assert all(asked)
    check_whole(client, experiment)


# Files.


def test_a_failed_upload_is_tried_a_few_times_told_and_tried_again_in_the_next_session(begun, store, monkeypatch):
    client, _ = store
    monkeypatch.setattr("study.tracking.upload.time.sleep", lambda seconds: None)
    trial = begun()
    (trial.log.folder / "table.txt").write_text("x")
    trial.log.take([artifact_event("table.txt", b"x")])
    trial.log.end(FINISHED)
    tried = []
    with monkeypatch.context() as patch:
        patch.setattr(client, "log_artifact", lambda *arguments: tried.append(1) or 1 / 0)
        courier = Courier(client)
        courier.add([trial])
        left, (missed,) = courier.close(0)
    assert (len(tried), left) == (3, {})
    assert "table.txt: division by zero" in missed
    run = client.get_run(trial.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["records.missed"] == missed
    with pytest.raises(MlflowException):  # a session that is killed before it has tried again
        deliver_all(trial.log.folder.parent, trial.search, Flaky(client, 1, carried_out=True))
    deliver_all(trial.log.folder.parent, trial.search, client)
    assert [file.path for file in client.list_artifacts(trial.run_id)] == ["table.txt"]
    assert "records.missed" not in client.get_run(trial.run_id).data.tags


def test_a_file_that_is_not_what_the_trial_wrote_is_told(begun, store):
    trial = begun()
    (trial.log.folder / "table.txt").write_text("another")
    trial.log.take([artifact_event("table.txt", b"x")])
    deliver(trial, store[0])
    assert "not what the trial wrote" in trial.missed[0]
    assert not store[0].list_artifacts(trial.run_id)


def test_more_metrics_than_one_call_takes(begun, store):
    client, _ = store
    trial = begun()
    epochs(trial, *range(1, 31), **{f"m{number}": 1.5 for number in range(70)})
    deliver(trial, client)
    assert points(client, trial.run_id, "m69") == [(epoch, 1.5) for epoch in range(1, 31)]


def test_a_long_reason_of_a_failure_does_not_hold_up_the_records(begun, store):
    trial = begun()
    trial.log.end(FAILED, "x" * 20_000)
    deliver(trial, store[0])
    run = store[0].get_run(trial.run_id)
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "x" * 4999 + "…")
    assert trial.log.lines()[-1]["failure"] == "x" * 20_000


# The courier.


@pytest.fixture
def courier(store, monkeypatch):
    """Return a courier that goes its round often, and its client, which loses the server while ``away`` is set."""
    monkeypatch.setattr("study.tracking.upload.ROUND_SECONDS", 0.05)

    class Away(threading.Event):
        def __getattr__(self, name):
            real = getattr(store[0], name)

            def call(*arguments, **options):
                if self.is_set():
                    raise MlflowException("nobody answers")
                return real(*arguments, **options)

            return call

    away = Away()
    running = Courier(away)
    yield running, away
    away.clear()
    running.close(0)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "not within 20 s"
        time.sleep(0.01)


def test_the_courier_delivers_once_the_server_is_back(begun, courier):
    courier, away = courier
    away.set()
    trial = begun()
    courier.add([trial])
    epochs(trial, 1)
    time.sleep(0.2)
    assert trial.pending == 2
    away.clear()
    wait_for(lambda: trial.pending == 0)


def test_the_courier_delivers_what_is_appended_without_being_told(begun, store, courier):
    trial = begun()
    courier[0].add([trial])
    wait_for(lambda: trial.pending == 0)
    trial.log.end(STOPPED)
    wait_for(lambda: trial.pending == 0)
    assert store[0].get_run(trial.run_id).info.status == "KILLED"


def test_a_trial_that_had_ended_is_delivered_when_it_continues_later(begun, store, courier):
    """Resume a trial that an earlier session has ended, long after the courier has seen that nothing is left."""
    trial = begun()
    trial.log.end(STOPPED)
    deliver(trial, store[0])
    courier[0].add([trial])
    time.sleep(0.3)  # some rounds
    begin(trial.log)
    epochs(trial, 1)
    trial.log.end(FINISHED)
    assert courier[0].close(0) == ({}, [])
    assert trial.pending == 0
    assert store[0].get_run(trial.run_id).info.status == "FINISHED"


def test_the_courier_brings_the_epochs_of_a_round_in_one_batch(begun, store, monkeypatch):
    client, _ = store
    batches = []
    log_batch = client.log_batch
    monkeypatch.setattr(client, "log_batch", lambda *a, **k: (batches.append(k.get("metrics", [])), log_batch(*a, **k)))
    monkeypatch.setattr("study.tracking.upload.ROUND_SECONDS", 60.0)
    trial, courier = begun(), Courier(client)
    courier.add([trial])
    epochs(trial, 1, 2, 3)
    time.sleep(0.2)
    assert not batches
    assert courier.close(0) == ({}, [])
    assert [[metric.step for metric in batch] for batch in batches if batch] == [[1, 2, 3]]


def test_what_comes_afterwards_finds_the_records_that_came_during_a_round(begun, courier, monkeypatch):
    courier, _ = courier
    trials, pending = [begun(1), begun(2)], []

    def during(trial, client):
        if trial is trials[0]:  # the second trial and the task come while the round is under way
            courier.add([trials[1]])
            courier.afterwards(lambda: pending.append(trials[1].pending))
        deliver(trial, client)

    monkeypatch.setattr("study.tracking.upload.deliver", during)
    courier.add([trials[0]])
    wait_for(lambda: pending)
    assert pending == [0]


def test_what_comes_afterwards_is_called_again_only_if_it_fails(courier):
    courier, _ = courier
    calls = []
    courier.afterwards(lambda: calls.append("fails first") or (len(calls) < 3 and 1 / 0))
    courier.afterwards(lambda: calls.append("once"))
    wait_for(lambda: calls.count("fails first") == 2)
    time.sleep(0.2)
    assert calls == ["fails first", "once", "fails first"]


@pytest.mark.parametrize("error", [MlflowException("no"), TypeError("NoneType"), KeyError("lines"), RecursionError()])
def test_nothing_in_one_trials_records_stops_anothers(begun, store, courier, monkeypatch, error):
    trials = [begun(number) for number in (1, 2, 3)]
    monkeypatch.setattr(trials[1].log, "lines", lambda after: (_ for _ in ()).throw(error))
    courier[0].add(trials)
    wait_for(lambda: trials[0].pending == trials[2].pending == 0)
    left, _ = courier[0].close(0)
    assert list(left) == [trials[1].log.folder]
    assert left[trials[1].log.folder]


def test_records_that_the_store_refuses_hold_up_no_others(begun, store):
    trials = [begun(number) for number in (1, 2, 3)]
    epochs(trials[1], 1, **{"m" * 300: 1.0})  # a name too long for MLflow
    courier = Courier(store[0])
    courier.add(trials)
    left, _ = courier.close(0)
    assert list(left) == [trials[1].log.folder]
    assert [one.pending for one in (trials[0], trials[2])] == [0, 0]


def test_the_courier_tells_what_waits_and_all_of_it_arrives_later(begun, store):
    trials = [begun(number) for number in (1, 2, 3)]
    courier = Courier(Flaky(store[0], 3, carried_out=False))
    courier.add(trials)
    left, _ = courier.close(0)
    assert set(left) == {one.log.folder for one in trials}
    assert set(left.values()) == {"the connection was lost"}
    assert all(not one.pending for one in deliver_all(trials[0].log.folder.parent, trials[0].search, store[0]))


def test_the_sweep_ends_what_was_left_running_and_nothing_else(begun, store):
    client, experiment = store
    left, done, other = begun(1), begun(2), client.create_run(experiment)
    done.log.end(FINISHED)
    for trial in (left, done):
        deliver(trial, client)
    sweep(client, experiment, STUDY)
    after = client.get_run(left.run_id)
    assert (after.info.status, after.data.tags["status"]) == ("KILLED", STOPPED)
    assert client.get_run(done.run_id).info.status == "FINISHED"
    assert client.get_run(other.info.run_id).info.status == "RUNNING"
