"""Tests that records wait on disk and arrive in MLflow once, complete and in order."""

import json
import shutil
import threading
import time

import pytest
from mlflow.exceptions import MlflowException

from study.schema import FAILED, FINISHED, STOPPED
from study.tracking.opening import experiment_id, open_client
from study.tracking.store import search_all, sweep
from study.tracking.upload import Courier, deliver, deliver_all
from study.trial.event_log import DELIVERED, RECORDS, Outbox
from tests.helpers.trial_context import DATASET


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Create a database, which takes seconds; each test gets a copy."""
    path = tmp_path_factory.mktemp("database") / "m.db"
    open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path, database):
    shutil.copy(database, tmp_path / "m.db")
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    return client, experiment_id(client, uri, "e")


@pytest.fixture
def begun(store, tmp_path):
    """Return a function that makes the outbox of a trial that has begun."""

    def make(number="001"):
        outbox = Outbox(tmp_path / number)
        begin(outbox, store, number)
        return outbox

    return make


def begin(outbox, store, number="001"):
    key = {"study": "it's", "trial": number}
    params = {"optimizer.lr": 1e-3, "loss.target_gradient": False, "loss.name": "focal"}
    outbox.begin(store[1], "parent", "name", key, {"seed": "0"}, params, DATASET)


def points(client, outbox, metric="train/loss"):
    return [(point.step, point.value) for point in client.get_metric_history(outbox.run_id, metric)]


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


def test_records_arrive_complete_and_in_order(begun, store):
    client, _ = store
    outbox = begun()
    for epoch in (1, 2, 3):
        outbox.epoch(epoch, {"train/loss": 3.0 - epoch, "val/uar": 0.1 * epoch})
    outbox.end(FINISHED)
    deliver(outbox, client)
    run = client.get_run(outbox.run_id)
    assert points(client, outbox) == [(1, 2.0), (2, 1.0), (3, 0.0)]
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", FINISHED)
    assert run.data.tags["mlflow.parentRunId"] == "parent"
    assert run.data.params == {"optimizer.lr": "0.001", "loss.target_gradient": "false", "loss.name": "focal"}
    assert run.inputs.dataset_inputs[0].dataset.name == "d"
    assert outbox.pending == 0


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("calls", range(12))
def test_a_server_lost_at_any_call_doubles_and_loses_nothing(begun, store, calls, carried_out):
    """Fail at every call, also after the call was carried out, so that only its answer is lost."""
    client, experiment = store
    outbox = begun()
    outbox.epoch(1, {"train/loss": 2.0})
    (outbox.folder / "table.txt").write_text("x")
    outbox.artifact("table.txt")
    outbox.epoch(2, {"train/loss": 1.0})
    outbox.end(STOPPED)
    begin(outbox, store)
    outbox.epoch(3, {"train/loss": 0.5})
    outbox.end(FINISHED)
    with pytest.raises(MlflowException):
        deliver(outbox, Flaky(client, calls, carried_out))
    assert outbox.pending > 0
    again = Outbox(outbox.folder)  # another process
    deliver(again, client)
    (run,) = search_all(client, [experiment], "")
    assert points(client, again) == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", FINISHED)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["table.txt"]
    assert len(run.inputs.dataset_inputs) == 1


def test_delivering_all_of_it_again_changes_nothing(begun, store):
    client, experiment = store
    outbox = begun()
    outbox.epoch(1, {"train/loss": 2.0})
    outbox.end(FINISHED)
    deliver(outbox, client)
    (outbox.folder / DELIVERED).unlink()
    deliver(outbox, client)
    assert points(client, outbox) == [(1, 2.0)]
    assert len(search_all(client, [experiment], "")) == 1


def test_an_epoch_that_is_on_record_is_left_as_it_is(begun, store):
    outbox = begun()
    outbox.epoch(1, {"train/loss": 2.0})
    outbox.epoch(1, {"train/loss": 9.0})
    assert outbox.last_epoch == 1
    assert outbox.last_metrics == {"train/loss": 2.0}


@pytest.mark.parametrize("tail", [b'{"kind": "epo', b"\0" * 40, b'{"kind": "epoch"\n'])
def test_half_a_line_is_dropped(begun, tail):
    outbox = begun()
    outbox.epoch(1, {"train/loss": 2.0})
    whole = (outbox.folder / RECORDS).read_bytes()
    (outbox.folder / RECORDS).write_bytes(whole + tail)
    again = Outbox(outbox.folder)
    assert (outbox.folder / RECORDS).read_bytes() == whole
    again.epoch(2, {"train/loss": 1.0})
    assert again.last_epoch == 2


def test_a_trial_that_is_resumed_is_running_again(begun, store):
    client, _ = store
    outbox = begun()
    outbox.end(FAILED, "worker died at http://me:s3cret@host")
    deliver(outbox, client)
    tags = client.get_run(outbox.run_id).data.tags
    assert (tags["status"], tags["failure"]) == (FAILED, "worker died at http://me:***@host")
    assert "s3cret" not in (outbox.folder / RECORDS).read_text()
    begin(outbox, store)
    assert outbox.status is None
    deliver(outbox, client)
    run = client.get_run(outbox.run_id)
    assert run.info.status == "RUNNING"
    assert not {"status", "failure"} & set(run.data.tags)


def test_a_failed_upload_is_retried_then_reported_and_holds_up_nothing(begun, store, monkeypatch):
    client, _ = store
    monkeypatch.setattr("study.tracking.upload.time.sleep", lambda seconds: None)
    tried = []
    monkeypatch.setattr(client, "log_artifact", lambda *arguments: tried.append(1) or 1 / 0)
    outbox = begun()
    outbox.artifact("table.parquet")
    outbox.end(FINISHED)
    deliver(outbox, client)
    assert len(tried) == 3
    (missed,) = outbox.missed
    assert "table.parquet" in missed
    assert "division by zero" in missed
    assert client.get_run(outbox.run_id).info.status == "FINISHED"


def test_more_metrics_than_one_call_takes(begun, store):
    client, _ = store
    outbox = begun()
    for epoch in range(1, 31):
        outbox.epoch(epoch, {f"m{number}": 1.0 * epoch for number in range(70)})
    deliver(outbox, client)
    assert points(client, outbox, "m69") == [(epoch, float(epoch)) for epoch in range(1, 31)]


def test_deliver_all_reports_what_waits_and_delivers_it_later(begun, store):
    client, _ = store
    folders = [begun(number).folder for number in ("001", "002", "003")]
    lost = Flaky(client, 3, carried_out=False)
    left = deliver_all(folders, lost, 0)
    assert set(left) == set(folders)
    assert "the connection was lost" in left[folders[0]]
    assert deliver_all(folders, client, 0) == {}


@pytest.fixture
def courier(store, monkeypatch):
    """Return a courier that polls often, and its client, which loses the server while ``away`` is set."""
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
    running.close()


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "not within 20 s"
        time.sleep(0.01)


def test_the_courier_delivers_once_the_server_is_back(begun, courier):
    courier, away = courier
    away.set()
    outbox = begun()
    courier.tell(outbox.folder)
    outbox.epoch(1, {"train/loss": 2.0})
    time.sleep(0.2)
    assert outbox.pending == 2
    away.clear()
    wait_for(lambda: outbox.pending == 0)


def test_the_courier_delivers_records_without_a_notice(begun, store, courier):
    """Record the end of a trial without a notice: a stopped trial records its end after Tune's last callback."""
    outbox = begun()
    courier[0].tell(outbox.folder)
    wait_for(lambda: outbox.pending == 0)
    outbox.end(STOPPED)
    wait_for(lambda: outbox.pending == 0)
    assert store[0].get_run(outbox.run_id).info.status == "KILLED"


def test_the_courier_does_so_also_while_other_trials_have_news(begun, courier):
    outbox, busy = begun(), begun("002")
    courier[0].tell(outbox.folder)
    wait_for(lambda: outbox.pending == 0)
    outbox.end(STOPPED)
    end = time.monotonic() + 20
    while outbox.pending:
        assert time.monotonic() < end, "not within 20 s"
        courier[0].tell(busy.folder)
        time.sleep(0.005)


def test_the_courier_brings_the_epochs_of_a_round_in_one_batch(begun, store, monkeypatch):
    client, _ = store
    batches = []
    log_batch = client.log_batch
    monkeypatch.setattr(client, "log_batch", lambda *a, **k: (batches.append(k.get("metrics", [])), log_batch(*a, **k)))
    monkeypatch.setattr("study.tracking.upload.ROUND_SECONDS", 60.0)
    outbox, courier = begun(), Courier(client)
    for epoch in (1, 2, 3):
        outbox.epoch(epoch, {"train/loss": 1.0 / epoch})
        courier.tell(outbox.folder)
    time.sleep(0.2)
    assert not batches
    courier.close()
    assert outbox.pending == 0
    assert [[metric.step for metric in batch] for batch in batches if batch] == [[1, 2, 3]]


def test_records_that_are_refused_hold_up_no_others(begun, store):
    """Refuse one record, to the courier and at the end; the server accepts all others."""
    client, _ = store
    outboxes = [begun(number) for number in ("001", "002", "003")]
    outboxes[1].epoch(1, {"m" * 300: 1.0})  # a name too long for MLflow
    courier = Courier(client)
    for outbox in outboxes:
        courier.tell(outbox.folder)
    courier.close()
    assert [outbox.pending for outbox in outboxes] == [0, 1, 0]
    outboxes[2].epoch(1, {"train/loss": 1.0})
    assert list(deliver_all([outbox.folder for outbox in outboxes], client, 0)) == [outboxes[1].folder]


def test_the_courier_delivers_all_that_is_there_before_it_ends(begun, courier):
    outboxes = [begun(number) for number in ("001", "002", "003")]
    for outbox in outboxes:
        courier[0].tell(outbox.folder)
    for outbox in outboxes:
        outbox.epoch(1, {"train/loss": 2.0})
        outbox.end(FINISHED)
    courier[0].close()
    assert [outbox.pending for outbox in outboxes] == [0, 0, 0]


def test_the_courier_cuts_no_line_that_is_being_written(begun, courier):
    outbox = begun()
    whole = (outbox.folder / RECORDS).read_bytes()
    half = b'{"kind": "epoch", "time": 1, "epoch": 1, '
    (outbox.folder / RECORDS).write_bytes(whole + half)
    courier[0].tell(outbox.folder)
    wait_for(lambda: outbox.pending == 0)
    assert (outbox.folder / RECORDS).read_bytes() == whole + half


def test_the_courier_survives_a_line_of_rubbish(begun, courier):
    """Write the line that a power loss leaves; the trial's next process cuts it off, and other trials do not wait."""
    others = [begun(number) for number in ("000", "002")]
    outbox = begun()
    with (outbox.folder / RECORDS).open("ab") as file:
        file.write(b"\0\0\0\n")
    for one in (*others, outbox):
        courier[0].tell(one.folder)
    wait_for(lambda: not any(other.pending for other in others))
    again = Outbox(outbox.folder)
    again.epoch(1, {"train/loss": 2.0})
    wait_for(lambda: again.pending == 0)


def test_the_sweep_ends_what_was_left_running_and_nothing_else(begun, store):
    client, experiment = store
    left, done, other = begun("001"), begun("002"), client.create_run(experiment)
    done.end(FINISHED)
    for outbox in (left, done):
        deliver(outbox, client)
    sweep(client, experiment, "it's")
    after = client.get_run(left.run_id)
    assert (after.info.status, after.data.tags["status"]) == ("KILLED", STOPPED)
    assert client.get_run(done.run_id).info.status == "FINISHED"
    assert client.get_run(other.info.run_id).info.status == "RUNNING"


def test_what_another_process_adds_is_known_too(begun, store):
    """Resume the trial in another process while this one still has its outbox."""
    client, _ = store
    outbox = begun()
    outbox.epoch(1, {"train/loss": 2.0, "train/seconds": 3.0})
    other = Outbox(outbox.folder)
    other.epoch(2, {"train/loss": 1.0, "train/seconds": 4.0})
    other.artifact("table.txt")
    (outbox.folder / "table.txt").write_text("x")
    outbox.epoch(2, {"train/loss": 9.0})
    outbox.artifact("table.txt")
    assert (outbox.last_epoch, outbox.last_metrics["train/loss"], outbox.seconds) == (2, 1.0, 7.0)
    other.end(FINISHED)
    outbox.end(FINISHED)
    assert outbox.lines() == other.lines()
    assert [line["kind"] for line in outbox.lines()] == ["run", "epoch", "epoch", "artifact", "end"]
    deliver(outbox, client)
    assert other.pending == 0
    deliver(other, client)
    assert points(client, other) == [(1, 2.0), (2, 1.0)]


def test_an_epoch_costs_the_same_however_many_there_were(tmp_path, monkeypatch):
    """Count the lines that are read: each line is read once, and not again for every epoch."""
    outbox = Outbox(tmp_path)
    read = []
    real = json.loads
    monkeypatch.setattr("study.trial.event_log.json.loads", lambda line: read.append(line) or real(line))
    for epoch in range(1, 201):
        outbox.epoch(epoch, {"train/loss": 1.0 / epoch})
        outbox.artifact("table.txt")
        assert (outbox.last_epoch, outbox.last_metrics, outbox.status) == (epoch, {"train/loss": 1.0 / epoch}, None)
    assert len(read) == 201


def test_a_line_that_is_being_written_is_not_read_yet(begun, store):
    outbox = begun()
    outbox.epoch(1, {"train/loss": 2.0})
    whole = (outbox.folder / RECORDS).read_bytes()
    begun_line = b'{"kind": "epoch", "time": 1, "epoch": 2, '
    (outbox.folder / RECORDS).write_bytes(whole + begun_line)
    assert (outbox.last_epoch, outbox.pending, len(outbox.lines())) == (1, 2, 2)
    (outbox.folder / RECORDS).write_bytes(whole + begun_line + b'"metrics": {"train/loss": 1.0}}\n')
    assert (outbox.last_epoch, outbox.pending, len(outbox.lines())) == (2, 3, 3)


def test_threads_that_read_at_the_same_time_count_each_line_once(tmp_path):
    outbox = Outbox(tmp_path)
    for epoch in range(1, 301):
        outbox.epoch(epoch, {"train/seconds": 1.0})
    for _ in range(20):
        fresh = Outbox(tmp_path)
        together = threading.Barrier(4)
        threads = [threading.Thread(target=lambda: (together.wait(), fresh.seconds)) for _ in range(4)]  # noqa: B023
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert fresh.seconds == 300.0


def test_the_seconds_so_far_are_on_record(begun, store):
    """Resume the trial in another process, too; an epoch without a time has no sum."""
    client, _ = store
    outbox = begun()
    outbox.epoch(1, {"train/seconds": 3.0})
    again = Outbox(outbox.folder)
    again.epoch(2, {"train/seconds": 4.5})
    deliver(again, client)
    assert points(client, again, "train/seconds_so_far") == [(1, 3.0), (2, 7.5)]
    other = begun("002")
    other.epoch(1, {"train/loss": 2.0})
    assert other.last_metrics == {"train/loss": 2.0}
