"""Tests of searches that are killed around the networks that they keep: records and networks end as if undisturbed."""

import errno
import random
from dataclasses import replace

import pytest

from study.schema import FINISHED
from study.search import kept_networks
from study.search.kept_networks import KeptNetworks
from study.trial import trainable
from study.trial.checkpoints import checkpoints, load_newest
from study.trial.ended import Ended, Saver, has_network
from study.trial.specification import TrialSpecification, trial_folder
from tests.helpers.trial_context import DEFAULTS, PARAMETERS, Driver, Killed, log_of, make_context

TRIALS, EPOCHS = 3, 2
SCORES = {1: 0.3, 2: 0.5, 3: 0.4}
KEPT = {"best": [2], "all": [1, 2, 3], "none": []}


@pytest.fixture(autouse=True)
def scores(monkeypatch):
    """Give the trials scores of their own, since so small a task has few; save the state of every epoch."""
    real = trainable._train_epochs

    def train(config, state, trial, device):
        for record in real(config, state, trial, device):
            record.metrics["val_noisy/uar"] = SCORES[trial.seed] - (EPOCHS - record.epoch) / 10
            yield record

    monkeypatch.setattr(trainable, "_train_epochs", train)
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 0.0)


@pytest.fixture
def search(task_at, tmp_path):
    """Return a function of ``--keep`` to the context of a search of three trials."""

    def make(keep, name="search"):
        task = task_at("noisy-A")
        defaults = {**DEFAULTS, "training.epochs": EPOCHS}
        planned = tuple(TrialSpecification({**defaults, **PARAMETERS}, seed, task, {}) for seed in SCORES)
        return replace(make_context(task, tmp_path / name, defaults), planned=planned, keep=keep)

    return make


def run(context):
    """Run a search as a session does: a second time for networks that were lost."""
    for _ in range(2):
        driver = Driver(context, TRIALS)
        driver.run()
    assert [entry.status for entry in driver.journal.entries()] == [FINISHED] * TRIALS
    assert driver.search.left == 0
    assert driver.networks.lost() == []
    return driver


def points(context):
    """Return the epochs on record of each trial, with their losses."""
    lines = [(number, line) for number in SCORES for line in log_of(context, number).lines()]
    return [(number, line["epoch"], line["metrics"]["train/loss"]) for number, line in lines if line["kind"] == "epoch"]


def networks(context):
    """Return the numbers of the trials whose networks are there, each that of the last epoch, and nothing else."""
    folders = {number: trial_folder(context.folder, number) for number in SCORES}
    found = [number for number, folder in folders.items() if has_network(folder)]
    assert all(load_newest(folders[number])[0]["epoch"] == EPOCHS for number in found)
    assert [len(checkpoints(folders[number])) for number in SCORES] == [number in found for number in SCORES]
    return found


class Once:
    """Function that kills its process at one of its calls, before or after it does its work.

    Args:
        owner: Module or class of the function.
        name: Its name.
        call: Number of the call.
        carried_out: Whether it does its work first.
    """

    def __init__(self, owner, name, call, carried_out):
        self.real, self.call, self.carried_out, self.calls = getattr(owner, name), call, carried_out, 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        if self.calls != self.call:
            return self.real(*arguments, **options)
        if self.carried_out:
            self.real(*arguments, **options)
        raise Killed


def kill_at(context, monkeypatch, owner, name, call, carried_out):
    """Run a search until a call kills it; return whether the call was reached."""
    with monkeypatch.context() as patch:
        once = Once(owner, name, call, carried_out)
        patch.setattr(owner, name, lambda *arguments, **options: once(*arguments, **options))
        try:
            Driver(context, TRIALS).run()
        except Killed:
            return True
    return False


WRITES = {
    (trainable, "save_checkpoint"): 2 * TRIALS,
    (Ended, "write"): TRIALS,
    (Saver, "start"): TRIALS,
    (trainable, "remove_checkpoints"): TRIALS,
    (KeptNetworks, "remove_beaten"): TRIALS,
    (kept_networks, "remove_network"): TRIALS,
}
"""Functions that write or remove something, and how often a search calls them at most."""


SOME = [pytest.param(keep, marks=[pytest.mark.slow] * (keep != "best")) for keep in KEPT]


@pytest.fixture(scope="module")
def once():
    """Return a dictionary for what is computed once for all tests."""
    return {}


@pytest.fixture
def unharmed(search, once):
    """Return a function that ends a search, and compares it with one that was never killed."""

    def compare(context):
        run(context)
        assert networks(context) == KEPT[context.keep]
        if not once:
            run(other := search("all", "undisturbed"))
            once["points"] = points(other)
            assert len(once["points"]) == TRIALS * EPOCHS
        assert points(context) == once["points"]

    return compare


@pytest.mark.parametrize("keep", SOME)
def test_a_search_keeps_what_it_is_asked_for_and_records_the_same(search, unharmed, keep):
    unharmed(search(keep))


@pytest.mark.parametrize("keep", SOME)
def test_a_kill_between_the_records_and_the_network_loses_neither(search, unharmed, monkeypatch, keep):
    """Kill the process when the network of each trial is about to be written."""
    context = search(keep)
    killed = [kill_at(context, monkeypatch, Saver, "start", 1, False) for _ in range(TRIALS)]
    assert killed.count(True) == {"best": 3, "all": 3, "none": 0}[keep]
    unharmed(context)


def test_a_full_disk_under_a_network_suspends_the_search_and_loses_no_trial(search, unharmed, monkeypatch):
    context, real = search("best"), trainable.save_checkpoint

    def full(state, *arguments, keep=2):
        if keep == 1:  # the network of a trial that has finished
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(state, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainable, "save_checkpoint", full)
        driver = Driver(context, TRIALS)
        driver.run()
        assert driver.search.suspended.startswith("No space left on device")
        assert driver.search.unended
    unharmed(context)


def test_a_network_that_cannot_be_trained_again_is_named_and_keeps_no_other_search_waiting(
    search, unharmed, monkeypatch
):
    def fail(*arguments):
        raise RuntimeError("CUDA error: an illegal memory access")

    context = search("best")
    assert kill_at(context, monkeypatch, Saver, "start", 1, False)
    Driver(context, 1).run()  # records what the trial has reported
    with monkeypatch.context() as patch:
        patch.setattr(trainable, "_train_epochs", fail)
        driver = Driver(context, 1)
        driver.run()
    assert "trial 1: its network could not be trained again: RuntimeError: CUDA error" in driver.said[0]
    assert (driver.search.without_network, driver.search.unended) == ({1}, 0)
    assert [entry.status for entry in driver.journal.entries()] == [FINISHED]
    unharmed(context)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("keep", KEPT)
def test_kills_at_random_writes_double_and_lose_nothing(search, unharmed, monkeypatch, keep, seed):
    context, rng = search(keep), random.Random(seed)
    for _ in range(3):
        (owner, name), most = rng.choice(list(WRITES.items()))
        kill_at(context, monkeypatch, owner, name, rng.randint(1, most), rng.random() < 0.5)
    unharmed(context)
