"""Tests of the resources that a search requests."""

from pathlib import Path

from ser.training.task import Task
from study.options import StudyOptions
from study.search.gpu_demand import needs_gpu
from study.search.journal import Entry
from study.search.run_search import Outcome
from study.setup.prepared_study import Search
from study.setup.spaces import Space, load_space
from study.trial.specification import TrialSpecification


def test_classical_trials_take_no_gpu():
    options = StudyOptions()
    base = options.defaults
    for name, needed in (("classical", False), ("proselflc", True)):
        search = Search(load_space(name, {}), (), "clean", Task((), Path(), None, None, {}))
        assert needs_gpu(search, options) is needed
    planned = TrialSpecification({**base, "loss.name": "cross_entropy"}, 0, Task((), Path(), None, None, {}), {})
    assert needs_gpu(Search(Space("s", "", {}, {}, ()), (), "clean", planned.task, (planned,)), options)


def test_repeated_configurations_are_counted():
    entries = [
        Entry(number, {"optimizer.lr": lr}, "finished", 1, 0.5, "", False)
        for number, lr in enumerate((0.1, 0.2, 0.1, 0.1), start=1)
    ]
    assert Outcome(tuple(entries), 4).repeats == 2
    assert Outcome(tuple(entries[:2]), 2).repeats == 0


def test_a_search_whose_failed_trials_are_being_tried_again_has_not_ended():
    failed = Entry(1, {}, "failed", 1, None, "out of memory", False)
    assert not Outcome((failed,), 1).interrupted
    assert Outcome((failed,), 1, unended=1).interrupted
    assert Outcome((failed,), 2).interrupted
