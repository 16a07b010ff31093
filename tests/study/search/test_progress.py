"""Progress in the terminal: counts, elapsed time and time left, known by hand, at any width."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from study.schema import FINISHED, SELECTIONS
from study.search import progress as module
from study.search.journal import Entry
from study.search.progress import SearchProgress, WholeStudy
from study.trial.specification import DONE, EPOCH, FAILURE, SUSPENDED, TRIAL_KEY

SELECTION = SELECTIONS["noisy"]
"""How the searches below choose."""


class Clock:
    """Time of the tests, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def test_the_time_left_is_that_of_the_remaining_epochs_at_the_speed_so_far(clock):
    whole = WholeStudy([4, 4], [0, 0], epochs=10, is_confirmation=False)
    assert whole.line(0, ended=0, running=0, trained=0) == "search 1 of 2, 0 of 8 trials"
    clock.now += 60
    # 10 of 80 epochs in a minute
    assert whole.line(0, ended=1, running=0, trained=10) == "search 1 of 2, 1 of 8 trials, about 7 min left"
    # 4 + 1 trials have ended, one of them stopped after 5 epochs: 30 of 30 + 5 epochs remain
    clock.now += 290
    assert whole.line(0, ended=4, running=0, trained=35) == "search 1 of 2, 4 of 8 trials, about 7 min left"
    assert whole.line(1, ended=1, running=5, trained=15) == "search 2 of 2, 5 of 8 trials, about 3 min left"
    assert whole.line(1, ended=4, running=0, trained=40) == "search 2 of 2, 8 of 8 trials"


def test_trials_of_an_earlier_session_are_done_and_say_nothing_of_the_speed(clock):
    whole = WholeStudy([4], [3], epochs=10, is_confirmation=True)
    assert whole.line(0, ended=3, running=5, trained=0) == "confirmation: 3 of 4 trainings"
    clock.now += 20
    assert whole.line(0, ended=3, running=7, trained=2) == "confirmation: 3 of 4 trainings, about 30 s left"


def trial(number, **result):
    return SimpleNamespace(config={TRIAL_KEY: number}, last_result=result)


def entry(number, epochs, value):
    return Entry(number=number, status=FINISHED, epochs=epochs, value=value, configuration={}, failure="", final=False)


@pytest.fixture
def shown(clock, monkeypatch):
    """Return a search's progress whose display goes to a string, and the latter."""

    def make(width, title="proselflc noisy-B", earlier=(), *, is_confirmation=False):
        console = Console(
            width=width, file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False, height=50
        )
        monkeypatch.setattr(module, "make_console", lambda: console)
        monkeypatch.setattr(console, "get_time", clock)
        whole = WholeStudy([4], [len(earlier)], 10, is_confirmation=is_confirmation)
        return SearchProgress(title, earlier, 4, 10, SELECTION, whole=whole), console

    def text(console):
        return [line.strip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d?]*\w", "", console.file.getvalue()))]

    make.text = text
    return make


def test_the_numbers_of_a_search_are_labelled(shown, clock):
    search, console = shown(80)
    one = trial(1)
    search.on_trial_start(0, [one], one)
    clock.now += 90
    one.last_result = {EPOCH: 5}
    search.on_trial_result(0, [one], one, one.last_result)
    search._progress.refresh()
    # 5 epochs in 90 s, 35 remain
    assert "proselflc noisy-B: 1 of 4 trials begun 5/40 epochs, 0:01:30, 0:10:30 left" in shown.text(console)
    assert "search 1 of 1, 0 of 4 trials, about 10 min left" in shown.text(console)
    search.on_experiment_end([one])


def test_nothing_is_left_when_all_trials_have_ended_though_one_was_stopped(shown, clock):
    search, console = shown(160)
    trials = [trial(number, **{EPOCH: 10, DONE: True, "val_noisy/uar": number / 10}) for number in range(1, 4)]
    trials.append(trial(4, **{EPOCH: 2, DONE: True, "val_noisy/uar": 0.1}))
    search.on_trial_start(0, [], trials[0])
    clock.now += 32
    for some in trials:
        search.on_trial_complete(0, trials, some)
    search.on_experiment_end(trials)
    last = [line for line in shown.text(console) if "epochs" in line][-1]
    assert last.startswith("proselflc noisy-B: 4 of 4 trials begun, best val_noisy/uar 0.300")
    assert last.endswith(" 32/40 epochs, 0:00:32")


@pytest.mark.parametrize("width", [60, 80, 100, 110, 140])
@pytest.mark.parametrize("title", ["elr clean", "symmetric_cross_entropy+dawid_skene noisy-B", "x" * 200])
def test_the_lines_keep_their_numbers_at_any_width(width, title, shown, clock):
    search, console = shown(width, title)
    one = trial(1, **{EPOCH: 3})
    search.on_trial_start(0, [], one)
    clock.now += 3600 * 30
    search.on_trial_result(0, [one], one, {})
    search.on_experiment_end([one])
    lines = shown.text(console)
    assert any(line.endswith(" 3/40 epochs, 30:00:00, 370:00:00 left") for line in lines)
    assert max(map(len, lines)) <= width
    assert all(re.search(r": 1(/| of )4 trials", line) for line in lines if " 3/40 " in line)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({DONE: True, "val_noisy/uar": 0.5}, "trial 2: val_noisy/uar 0.500 (best)"),
        ({DONE: True, "val_noisy/uar": 0.3}, "trial 2: val_noisy/uar 0.300"),
        ({DONE: True}, "trial 2: ended without a score"),
        ({FAILURE: "out of memory"}, "trial 2: failed: out of memory"),
        ({SUSPENDED: "the disk is full"}, "trial 2: left unfinished: the disk is full"),
        ({EPOCH: 3}, "trial 2: ended early, after epoch 3"),
    ],
)
def test_a_trial_that_ends_has_a_line(result, said, shown):
    search, console = shown(80, earlier=[entry(1, 10, 0.4)])
    search.on_trial_complete(0, [], trial(2, **result))
    search.on_experiment_end([])
    assert f"proselflc noisy-B {said}" in shown.text(console)


def test_no_training_of_a_confirmation_is_the_best(shown):
    search, console = shown(80, is_confirmation=True)
    search.on_trial_complete(0, [], trial(1, **{DONE: True, "val_noisy/uar": 0.5}))
    search.on_experiment_end([])
    assert "proselflc noisy-B training 1: val_noisy/uar 0.500" in shown.text(console)
    assert "best" not in console.file.getvalue()
