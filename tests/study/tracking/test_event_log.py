"""Tests of event logs: whole lines, once each, in order."""

import threading

import pytest

from study.schema import FAILED, FINISHED, STOPPED
from study.tracking.event_log import RECORDS, EventLog
from study.trial.specification import artifact_event, epoch_event, tags_event
from tests.helpers.trial_context import DATASET


@pytest.fixture
def log(tmp_path):
    """Return the log of a trial that has begun."""
    made = EventLog(tmp_path / "trial_001")
    made.begin({"seed": "0"}, {"optimizer.lr": 1e-3, "loss.target_gradient": False, "loss.name": "focal"}, DATASET)
    return made


def kinds(log):
    return [line["kind"] for line in log.lines()]


def test_a_log_tells_what_its_lines_come_to_also_when_it_is_read_again(log):
    log.take([tags_event({"hardware.cpu": "x"}), epoch_event(1, {"train/loss": 2.0, "train/seconds": 3.0})])
    log.take([epoch_event(2, {"train/loss": 1.0, "train/seconds": 4.5}), artifact_event("table.txt", b"x")])
    log.end(STOPPED)
    for one in (log, EventLog(log.folder)):
        assert (one.attempts, one.last_epoch, one.seconds, one.status) == (1, 2, 7.5, STOPPED)
        assert one.last_metrics == {"train/loss": 1.0, "train/seconds": 4.5, "train/seconds_so_far": 7.5}
        assert kinds(one) == ["run", "tags", "epoch", "epoch", "artifact", "end"]
        assert len(one) == 6
        assert [line["kind"] for line in one.lines(4)] == ["artifact", "end"]
        assert one.lines(6) == []
    first = log.lines()[0]
    assert first["params"] == {"optimizer.lr": "0.001", "loss.target_gradient": "false", "loss.name": "focal"}


def test_what_is_on_record_is_left_as_it_is(log):
    events = [epoch_event(1, {"train/loss": 2.0}), artifact_event("table.txt", b"x")]
    log.take(events)
    log.take([epoch_event(1, {"train/loss": 9.0}), *events, artifact_event("table.txt", b"y")])
    log.end(FINISHED)
    log.end(FINISHED)
    assert kinds(log) == ["run", "epoch", "artifact", "artifact", "end"]
    assert log.last_metrics == {"train/loss": 2.0}


def test_a_trial_that_goes_on_has_not_ended(log):
    log.end(FAILED, "worker died at http://me:s3cret@host")
    log.begin({"seed": "1"}, {}, DATASET)
    assert (log.status, log.attempts) == (None, 2)
    assert kinds(log) == ["run", "end", "again"]
    assert "s3cret" not in (log.folder / RECORDS).read_text()


def test_a_trial_that_has_not_begun_has_no_end_and_no_file(tmp_path):
    log = EventLog(tmp_path / "trial_001")
    log.end(FAILED, "no")
    assert (len(log), log.attempts, log.last_epoch, log.status, log.lines()) == (0, 0, 0, None, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tail", [b'{"kind": "epo', b"\0" * 40, b'{"kind": "epoch"\n'])
def test_half_a_line_is_dropped(log, tail):
    log.take([epoch_event(1, {"train/loss": 2.0})])
    path = log.folder / RECORDS
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    again = EventLog(log.folder)
    assert path.read_bytes() == whole
    again.take([epoch_event(2, {"train/loss": 1.0})])
    assert (again.last_epoch, kinds(again)) == (2, ["run", "epoch", "epoch"])


def test_names_and_numbers_come_back_as_they_were(log):
    value = 0.1 + 0.2
    log.take(
        [epoch_event(1, {"val/uar": value, "m\u00e9trique": 1e-300}), tags_event({"name": "\u2028\u0085 \U0001f600"})]
    )
    epoch, tags = EventLog(log.folder).lines(1)
    assert epoch["metrics"] == {"val/uar": value, "m\u00e9trique": 1e-300}
    assert tags["tags"] == {"name": "\u2028\u0085 \U0001f600"}


def test_an_epoch_costs_the_same_however_many_there_were(log, monkeypatch):
    """Read nothing while lines are appended."""
    monkeypatch.setattr("study.tracking.event_log.json.loads", lambda *_: pytest.fail("read"))
    for epoch in range(1, 201):
        log.take([epoch_event(epoch, {"train/loss": 1.0 / epoch})])
        assert (log.last_epoch, log.last_metrics, len(log)) == (epoch, {"train/loss": 1.0 / epoch}, epoch + 1)


def test_a_thread_that_reads_while_lines_are_appended_sees_whole_lines(log):
    seen, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            lines = log.lines(1)
            assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
            seen.append(len(lines))

    thread = threading.Thread(target=read)
    thread.start()
    for epoch in range(1, 301):
        log.take([epoch_event(epoch, {"train/loss": 1.0})])
    stop.set()
    thread.join()
    assert seen == sorted(seen)
    assert len(log.lines(1)) == 300
