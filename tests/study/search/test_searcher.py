"""Tests of processes and devices that fail: which trials are tried again, where, and what is printed."""

import math
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.schema import FAILED, FINISHED, SELECTIONS, STOPPED
from study.search.attempts import MAX_ATTEMPTS, Attempts, Death
from study.search.journal import Journal
from study.search.searcher import EndOfSearch, StudyScheduler, StudySearch
from study.search.trial_logs import TrialLogs, read_logs
from study.setup.pruners import make_pruner
from study.setup.spaces import load_space
from study.trial import trainable
from study.trial.specification import (
    ATTEMPT_KEY,
    DEVICE,
    DONE,
    EPOCH,
    EVENTS,
    FAILURE,
    FAILURE_FINAL,
    SUSPENDED,
    TRIAL_KEY,
    TrialContext,
    epoch_event,
)
from tests.helpers.trial_context import DATASET, EPOCHS, PARAMETERS, Driver, log_of, make_context, runs_of

METRIC = "val_noisy/uar"


@pytest.fixture
def context(task_at, tmp_path):
    return make_context(task_at("noisy-A"), tmp_path / "search")


def broken(*_, **__):
    raise RuntimeError("CUDA error: an illegal memory access\nmore of it")
    yield


def test_an_unexpected_error_becomes_the_failure_if_it_stays(context, monkeypatch):
    monkeypatch.setattr(trainable, "train", broken)
    driver = Driver(context)
    driver.run()
    (entry,) = driver.journal.entries()
    assert (entry.status, entry.final) == (FAILED, False)
    assert f"{MAX_ATTEMPTS} processes died in epoch 1" in entry.failure
    assert "RuntimeError: CUDA error: an illegal memory access" in entry.failure
    assert [line["kind"] for line in log_of(context).lines()] == ["run", *["again"] * (MAX_ATTEMPTS - 1), "end"]
    assert len([text for text in driver.said if "tried again" in text]) == MAX_ATTEMPTS - 1


def test_a_trial_that_failed_so_is_tried_again_in_another_session(context, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(trainable, "train", broken)
        Driver(context).run()
    driver = Driver(context)
    driver.run()
    assert [entry.status for entry in driver.journal.entries()] == [FINISHED]
    assert log_of(context).status == FINISHED


def test_progress_gives_a_trial_new_attempts(context, monkeypatch):
    """Let two processes die after each epoch: three may die in the same one."""
    real, deaths = trainable.train, []

    def dying(config, task, *, seed, state, device):
        begun = 0 if state is None else state["epoch"]
        if deaths.count(begun) == MAX_ATTEMPTS - 1:
            yield next(real(config, task, seed=seed, state=state, device=device))
            begun += 1
        deaths.append(begun)
        raise RuntimeError("died")

    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 0.0)
    monkeypatch.setattr(trainable, "train", dying)
    driver = Driver(context)
    driver.run()
    assert [deaths.count(epoch) for epoch in range(EPOCHS)] == [MAX_ATTEMPTS - 1] * EPOCHS
    assert [entry.status for entry in driver.journal.entries()] == [FINISHED]


def test_a_trial_that_cannot_begin_anywhere_fails_and_stops_no_other(context, monkeypatch):
    """Fail before the first record, as on a GPU that torch cannot use; then the next session works."""
    real = trainable.load_newest
    monkeypatch.setattr(trainable, "load_newest", lambda folder: 1 / 0 if folder.name == "trial_001" else real(folder))
    driver = Driver(context, trials=2)
    driver.run()
    first, second = driver.journal.entries()
    assert (first.status, second.status) == (FAILED, FINISHED)
    assert "ZeroDivisionError" in first.failure
    monkeypatch.setattr(trainable, "load_newest", real)
    again = Driver(context, trials=2)
    again.run()
    assert [entry.status for entry in again.journal.entries()] == [FINISHED, FINISHED]


@pytest.mark.parametrize("error", [RayActorError(), None])
def test_a_process_that_left_no_error_is_reported_as_such(error):
    search = made_search(SimpleNamespace(entries=list))[0]
    assert search.note_error("unknown", error) is None
    assert "out of memory" in Death(1, 0, "here", "", True).text


# Devices. Scripted trials: no training, so that many can be run.


class Entries:
    """Journal of trials that are suggested one after another and never judged."""

    def __init__(self, trials):
        self.left, self.ended = list(range(1, trials + 1)), {}

    def entries(self):
        return []

    def suggest(self):
        return SimpleNamespace(number=self.left.pop(0), configuration={}, status="running")

    def report(self, number, epoch, value):
        return False

    def finish(self, number, epoch, value):
        self.ended[number] = FINISHED

    def fail(self, number, reason, *, final):
        self.ended[number] = reason


def made_search(journal, trials=0, slots=2):
    """Return a searcher with made-up logs, and what it says."""
    said = []

    class Log:
        def __init__(self):
            self.attempts, self.last_epoch, self.last_metrics, self.status = 0, 0, {}, None

        def take(self, events):
            for event in events:
                self.last_epoch, self.last_metrics = event["epoch"], event["metrics"]

        def end(self, status, failure=None):
            self.status = status

    class Logs(dict):
        def __missing__(self, number):
            self[number] = Log()
            return self[number]

        def begin(self, entry):
            self[entry.number].attempts += 1
            return self[entry.number]

        def parameters(self, entry):
            return {}

    search = StudySearch(journal, Logs(), SELECTIONS["noisy"], trials, slots, say=said.append)
    return search, said


def on_devices(trials, dies, devices=("GPU 0", "GPU 1")):
    """Run a search on several devices, one trial at a time on each, the broken one free first; return what came of it.

    Args:
        trials: Number of trials.
        dies: Called with device and number: whether the process dies in its first step.
        devices: The devices, the one that is given first first.
    """
    journal = Entries(trials)
    search, said = made_search(journal, trials, len(devices))
    scheduler, stopper = StudyScheduler(search), EndOfSearch(search)
    free, busy, ran, held, count = list(devices), [], [], [], 0
    while True:
        while free:
            count += 1
            suggested = search.suggest(str(count))
            if not isinstance(suggested, dict):
                break
            number, device = suggested[TRIAL_KEY], free.pop(0)
            placed = {DEVICE: device, EPOCH: 0}
            if scheduler.on_trial_result(None, SimpleNamespace(trial_id=str(count)), placed) == TrialScheduler.NOOP:
                held.append(device)
                continue
            ran.append((device, number))
            busy.append((str(count), device, number))
        if not busy:
            break
        # Processes that die are free before others.
        name, device, number = min(busy, key=lambda one: not dies(one[1], one[2]))
        busy.remove((name, device, number))
        free.insert(0, device)
        if dies(device, number):
            search.note_error(name, RuntimeError("uncorrectable ECC error"))
            search.on_trial_complete(name, error=True)
            continue
        event = epoch_event(1, {METRIC: 0.5})
        search.on_trial_complete(name, {EVENTS: [event], EPOCH: 1, DONE: True, "done": True})
    assert suggested == Searcher.FINISHED
    assert stopper.stop_all()
    assert not stopper("any", {})
    return SimpleNamespace(ended=journal.ended, ran=ran, held=held, said=said)


def test_one_broken_gpu_takes_two_trials_and_no_more():
    found = on_devices(8, lambda device, number: device == "GPU 1", ("GPU 1", "GPU 0"))
    assert found.ended == dict.fromkeys(range(1, 9), FINISHED)
    assert len([device for device, _ in found.ran if device == "GPU 1"]) == 2
    assert found.held == ["GPU 1"]
    assert any("GPU 1 is left out" in text for text in found.said)
    assert any("uncorrectable ECC error" in text for text in found.said)


def test_a_trial_that_kills_its_processes_everywhere_takes_no_device_with_it():
    found = on_devices(6, lambda device, number: number == 3)
    assert {number: found.ended[number] for number in (1, 2, 4, 5, 6)} == dict.fromkeys((1, 2, 4, 5, 6), FINISHED)
    assert "processes died in epoch 1" in found.ended[3]
    assert not found.held


def test_a_device_is_not_left_out_when_there_is_no_other():
    found = on_devices(3, lambda device, number: True, ("GPU 0",))
    assert all("3 processes died in epoch 1 (GPU 0)" in reason for reason in found.ended.values())
    assert len(found.ended) == 3
    assert not found.held


def test_a_success_clears_a_device():
    """Let every other trial die on one device: no device is left out, for there is a success in between."""
    attempts = Attempts()
    for number in range(1, 20):
        attempts.placed("GPU 0", number)
        attempts.placed("GPU 1", 100 + number)
        if number % 2:
            assert attempts.died(Death(number, 0, "GPU 0", "", True)) is None
        else:
            attempts.succeeded("GPU 0", number)
    assert not attempts.left_out


def test_deaths_later_than_the_first_step_are_the_trials_own():
    attempts = Attempts()
    attempts.placed("GPU 0", 9)
    for number in (1, 2, 3, 4):
        attempts.placed("GPU 1", number)
        assert attempts.died(Death(number, 5, "GPU 1", "", False)) is None
    assert not attempts.left_out


def die_together(attempts, numbers, device="GPU 1", epoch=0):
    """Place trials on one device, where they die together; return why each of them is not tried again."""
    for number in numbers:
        attempts.placed(device, number)
    return [attempts.died(Death(number, epoch, device, "CUDA error: an illegal access", True)) for number in numbers]


def test_trials_that_share_a_device_and_die_together_count_once():
    attempts = Attempts(sharing=True)
    attempts.placed("GPU 0", 9)
    for first in (1, 2, 3, 4):  # the error of another one is reported first each time
        numbers = [first, *({1, 2, 3, 4} - {first})]
        assert die_together(attempts, numbers) == [None] * 4
        attempts.placed("GPU 1", 8)
        attempts.succeeded("GPU 1", 8)  # the device works
    assert not attempts.left_out
    # One that is first three times in an epoch has failed; the others are still tried again.
    assert die_together(attempts, [1, 2, 3]) == [None] * 3
    reasons = die_together(attempts, [1, 2, 3])
    assert "3 processes died in epoch 1 (GPU 1)" in reasons[0]
    assert reasons[1:] == [None, None]


def test_a_shared_device_where_all_die_in_their_first_step_twice_is_left_out():
    attempts = Attempts(sharing=True)
    attempts.placed("GPU 0", 9)
    assert die_together(attempts, [1, 2, 3, 4]) == [None] * 4
    assert not attempts.left_out  # one error may have ended all four
    assert die_together(attempts, [5, 6, 7, 8]) == [None] * 4
    assert attempts.left_out == {"GPU 1"}


def test_a_death_after_an_epoch_in_between_is_another_one():
    attempts = Attempts(sharing=True)
    for number in (1, 2):
        attempts.placed("GPU 0", number)
    assert attempts.died(Death(1, 0, "GPU 0", "", True)) is None
    attempts.succeeded("GPU 0", 2)
    reasons = []
    for _ in range(MAX_ATTEMPTS):
        reasons.append(attempts.died(Death(2, 1, "GPU 0", "", False)))
        attempts.placed("GPU 0", 2)
    assert reasons[:-1] == [None, None]
    assert reasons[-1]


def test_a_search_on_a_device_that_is_left_out_from_before_uses_another(context):
    attempts = Attempts({"GPU 1 (node)"})
    devices = iter(["GPU 1 (node)", "GPU 0 (node)"])
    driver = Driver(context, device=lambda number: next(devices), attempts=attempts)
    driver.run()
    assert [entry.status for entry in driver.journal.entries()] == [FINISHED]
    assert len([line for line in log_of(context).lines() if line["kind"] in ("run", "again")]) == 1


def test_processes_that_die_before_they_have_a_device_count_and_leave_none_out():
    attempts = Attempts()
    attempts.placed("GPU 0", 9)
    for number in (1, 2):
        reasons = [attempts.died(Death(number, 0, "", "ImportError: no", True)) for _ in range(MAX_ATTEMPTS)]
        assert reasons[:-1] == [None] * (MAX_ATTEMPTS - 1)
        assert reasons[-1] == "3 processes died in epoch 1 (none of them got a device): ImportError: no"
    assert not attempts.left_out


def test_a_suggestion_that_cannot_be_trained_fails_and_stops_no_other(context):
    driver = Driver(context, trials=2, parameters={**PARAMETERS, "optimizer.lr": -1.0})
    driver.run()
    entries = driver.journal.entries()
    assert [(entry.status, entry.final) for entry in entries] == [(FAILED, True)] * 2
    assert all("optimizer.lr" in entry.failure for entry in entries)
    assert len([text for text in driver.said if "failed: " in text]) == 2
    assert Driver(context, trials=2).search.left == 0


# Sessions: what one leaves to the next, with a real journal and real event logs.


def session(folder, trials=4, slots=9, **options):
    context = TrialContext(SimpleNamespace(absent={}), {}, 0, 1, "cpu", METRIC, folder)
    courier = SimpleNamespace(client=None, add=lambda deliveries: None)
    logs = TrialLogs(context, {}, DATASET, runs_of("0", "s"), courier)
    return StudySearch(journal(folder), logs, SELECTIONS["noisy"], trials, slots, **options)


def journal(folder):
    pruner = make_pruner("median", 1, EPOCHS)
    return Journal(folder, load_space("proselflc", {}), SELECTIONS["noisy"], 0, "tpe", pruner)


def begin(searcher, name):
    """Suggest a trial and place it; return its configuration."""
    suggested = searcher.suggest(name)
    assert searcher.observe(name, {DEVICE: "here", EPOCH: 0}) == TrialScheduler.CONTINUE
    return suggested


def reported(epoch, value, **more):
    return {EVENTS: [epoch_event(epoch, {METRIC: value})], EPOCH: epoch, DONE: False, **more}


def finish(searcher, name, value=0.5):
    searcher.on_trial_complete(name, reported(EPOCHS, value) | {DONE: True, "done": True})


def without_attempt(configuration):
    return {key: value for key, value in configuration.items() if key != ATTEMPT_KEY}


def test_the_number_of_trials_is_constant(tmp_path):
    searcher = session(tmp_path, trials=3)
    suggested = [begin(searcher, f"t{n}") for n in range(3)]
    assert [values[TRIAL_KEY] for values in suggested] == [1, 2, 3]
    assert searcher.suggest("t3") is None  # one of them may have to be tried again
    for n in range(3):
        finish(searcher, f"t{n}")
    assert searcher.suggest("t3") == Searcher.FINISHED


def test_unfinished_trials_come_first_with_their_configurations(tmp_path):
    first = session(tmp_path)
    suggested = [begin(first, f"t{n}") for n in range(3)]
    finish(first, "t1")
    again = session(tmp_path)
    assert again.left == 3
    resumed = [again.suggest(f"u{n}") for n in range(2)]
    assert [without_attempt(one) for one in resumed] == [without_attempt(suggested[n]) for n in (0, 2)]
    assert {one[ATTEMPT_KEY] for one in resumed} == {2}
    assert again.suggest("u2")[TRIAL_KEY] == 4
    assert again.suggest("u3") is None


def test_a_finished_search_is_extended_knowing_what_it_has(tmp_path):
    whole = session(tmp_path / "whole", trials=6)
    for n in range(6):
        begin(whole, f"t{n}")
        finish(whole, f"t{n}", 0.3 + 0.01 * n)
    for trials in (4, 6):
        searcher = session(tmp_path / "extended", trials=trials)
        for _ in range(searcher.left):
            values = begin(searcher, "t")
            finish(searcher, "t", 0.3 + 0.01 * (values[TRIAL_KEY] - 1))
        assert searcher.suggest("t") == Searcher.FINISHED
    assert journal(tmp_path / "extended").entries() == journal(tmp_path / "whole").entries()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_a_number_is_a_failure_and_none_stays_running(tmp_path, value):
    searcher = session(tmp_path, trials=2)
    begin(searcher, "a")
    begin(searcher, "b")
    finish(searcher, "a", value)
    finish(searcher, "b")
    entries = journal(tmp_path).entries()
    assert [entry.status for entry in entries] == [FAILED, FINISHED]
    assert METRIC in entries[0].failure
    assert session(tmp_path, trials=2).left == 0


def test_failures_are_tried_again_unless_they_would_only_come_again(tmp_path):
    searcher = session(tmp_path, trials=2)
    configurations = [begin(searcher, name) for name in "ab"]
    searcher.on_trial_complete("a", {EPOCH: 2, FAILURE: "diverged", FAILURE_FINAL: True})
    searcher.on_trial_complete("b", {EPOCH: 2, FAILURE: "out of memory", FAILURE_FINAL: False})
    again = session(tmp_path, trials=2)
    assert without_attempt(begin(again, "c")) == without_attempt(configurations[1])
    assert again.observe("c", reported(1, 0.2)) == TrialScheduler.CONTINUE
    finish(again, "c", 0.4)
    assert again.suggest("d") == Searcher.FINISHED
    first, second = journal(tmp_path).entries()
    assert (first.status, first.failure) == (FAILED, "diverged")
    assert (second.status, second.value) == (FINISHED, 0.4)
    assert {number: log.status for number, log in read_logs(tmp_path).items()} == {1: FAILED, 2: FINISHED}
    assert session(tmp_path, trials=2).left == 0


def test_the_deadline_leaves_trials_for_the_next_session(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("study.search.searcher.time.monotonic", lambda: now[0])
    searcher = session(tmp_path, deadline=60.0)
    running = begin(searcher, "a")
    now[0] = 60.0
    assert searcher.observe("a", reported(1, 0.2)) == TrialScheduler.STOP
    searcher.on_trial_complete("a", reported(1, 0.2))
    assert searcher.suggest("b") == Searcher.FINISHED
    assert read_logs(tmp_path)[1].status == STOPPED
    assert without_attempt(session(tmp_path).suggest("a")) == without_attempt(running)


def test_a_trial_that_waits_for_a_device_does_not_hold_up_the_end(tmp_path, monkeypatch):
    """Let the time run out while one trial waits for a node, as where nodes were lost."""
    now = [0.0]
    monkeypatch.setattr("study.search.searcher.time.monotonic", lambda: now[0])
    searcher = session(tmp_path, deadline=60.0)
    stopper = EndOfSearch(searcher)
    begin(searcher, "a")
    searcher.suggest("b")
    now[0] = 60.0
    assert not stopper.stop_all()
    searcher.on_trial_complete("a", reported(1, 0.2))
    assert stopper.stop_all()
    assert session(tmp_path).left == 4


def test_no_trial_begins_after_the_deadline(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("study.search.searcher.time.monotonic", lambda: now[0])
    searcher = session(tmp_path, deadline=60.0)
    searcher.suggest("a")
    now[0] = 60.0
    placed = {DEVICE: "here", EPOCH: 0}
    assert searcher.observe("a", placed) == TrialScheduler.STOP
    searcher.on_trial_complete("a", placed)
    assert not read_logs(tmp_path)
    assert [entry.status for entry in journal(tmp_path).entries()] == ["running"]


def test_a_failed_trial_that_is_resumed_is_left_if_it_does_not_end(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("study.search.searcher.time.monotonic", lambda: now[0])
    first = session(tmp_path, trials=1)
    begin(first, "a")
    first.on_trial_complete("a", {EPOCH: 0, FAILURE: "out of memory", FAILURE_FINAL: False})
    assert first.left == 0
    second = session(tmp_path, trials=1, deadline=60.0)
    begin(second, "a")
    assert (second.left, second.unended) == (0, 1)  # where Ctrl-C ends the session now
    now[0] = 60.0
    second.on_trial_complete("a", reported(1, 0.2))
    assert second.left == 1
    third = session(tmp_path, trials=1)
    begin(third, "a")
    third.on_trial_complete("a", {EPOCH: 1, FAILURE: "diverged", FAILURE_FINAL: True})
    (entry,) = journal(tmp_path).entries()
    assert (entry.status, entry.failure, entry.final) == (FAILED, "diverged", True)
    assert session(tmp_path, trials=1).left == 0


def test_a_suggestion_whose_log_cannot_be_opened_is_not_one_that_runs(tmp_path, monkeypatch):
    searcher = session(tmp_path)
    monkeypatch.setattr(TrialLogs, "__getitem__", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    assert searcher.suggest("a") == Searcher.FINISHED
    assert searcher.suspended == "Input/output error"
    assert searcher.idle


def test_a_suspended_trial_stays_and_no_other_is_begun(tmp_path):
    searcher = session(tmp_path)
    running = begin(searcher, "a")
    searcher.on_trial_complete("a", {EPOCH: 1, SUSPENDED: "No space left on device"})
    assert searcher.suggest("b") == Searcher.FINISHED
    assert searcher.suspended == "No space left on device"
    assert without_attempt(session(tmp_path).suggest("a")) == without_attempt(running)


def test_a_stopped_trial_is_pruned_and_not_tried_again(tmp_path):
    """Stop a trial far below the median of ten others; Tune hands its last result over twice."""
    searcher = session(tmp_path, trials=11)
    for n in range(10):
        begin(searcher, f"t{n}")
        searcher.observe(f"t{n}", reported(1, 0.5))
        searcher.observe(f"t{n}", reported(2, 0.5))
        finish(searcher, f"t{n}")
    begin(searcher, "bad")
    decisions = [searcher.observe("bad", reported(epoch, 0.1)) for epoch in (1, 2)]
    assert decisions[-1] == TrialScheduler.STOP
    searcher.on_trial_complete("bad", reported(2, 0.1))
    entry = journal(tmp_path).entries()[-1]
    assert (entry.status, entry.value) == (STOPPED, 0.1)
    assert read_logs(tmp_path)[11].status == STOPPED
    assert session(tmp_path, trials=11).left == 0


def test_slots_and_attempts_are_counted(tmp_path):
    context = TrialContext(SimpleNamespace(absent={}), {}, 0, 1, "cpu", METRIC, tmp_path)
    courier = SimpleNamespace(client=None, add=lambda deliveries: None)
    journal = Journal(tmp_path, load_space("cross_entropy", {}), SELECTIONS["noisy"], 0)
    logs = TrialLogs(context, {}, DATASET, runs_of("0", "s"), courier)
    search = StudySearch(journal, logs, SELECTIONS["noisy"], 3, slots=2)
    first, second = search.suggest("a"), search.suggest("b")
    assert [(one[TRIAL_KEY], one[ATTEMPT_KEY]) for one in (first, second)] == [(1, 1), (2, 1)]
    assert search.suggest("c") is None
    assert search.observe("a", {DEVICE: "here", EPOCH: 0}) == TrialScheduler.CONTINUE
    search.on_trial_complete("a", error=True)
    third, again = search.suggest("c"), None
    assert (third[TRIAL_KEY], third[ATTEMPT_KEY]) == (3, 1)
    search.on_trial_complete("c", error=True)
    again = search.suggest("d")
    assert (again[TRIAL_KEY], again[ATTEMPT_KEY]) == (1, 2)
    assert search.suggest("e") is None
