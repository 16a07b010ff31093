"""Tests of the journal: the file on disk determines what a search does next."""

import json
import math
import os
import resource
import shutil
from pathlib import Path
from typing import get_args

import optuna
import pytest

from ser.utils.errors import UserError
from study.options import Sampler, Scheduler
from study.schema import FAILED, FINISHED, RUNNING, SELECTIONS, STOPPED
from study.search.journal import CONFIGURATION, JOURNAL, Journal
from study.setup.pruners import make_pruner
from study.setup.spaces import load_space

NOISY = SELECTIONS["noisy"]
METRIC = NOISY.metric
EPOCHS = 9

# Written by version 0.1: trial 1 is finished, trial 2 has failed, and trial 3 has trained two epochs.
JOURNAL_OF_VERSION_0_1 = Path(__file__).parents[2] / "fixtures" / "journal_0_1.jsonl"


def journal(folder, space="proselflc", seed=1, sampler="tpe", scheduler="none"):
    return Journal(folder, load_space(space, {}), NOISY, seed, sampler, make_pruner(scheduler, 1, EPOCHS))


def score(configuration, epoch):
    """Return a made-up score that the learning rate decides and that grows over the epochs."""
    return 0.1 + 0.01 * epoch / EPOCHS - abs(math.log10(configuration["optimizer.lr"]) + 3) / 10


def train(opened, number, configuration, first=1):
    for epoch in range(first, EPOCHS):
        if opened.report(number, epoch, score(configuration, epoch)):
            opened.stop(number)
            return
    opened.finish(number, EPOCHS, score(configuration, EPOCHS))


def extend(opened, trials):
    while len(opened.entries()) < trials:
        entry = opened.suggest()
        train(opened, entry.number, entry.configuration)
    return opened.entries()


def searched(folder, trials, **options):
    return extend(journal(folder, **options), trials)


def optuna_trials(folder):
    """Read the journal through Optuna's public interface."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
    return optuna.load_study(study_name="search", storage=storage).trials


def test_a_search_begins_with_the_points_to_evaluate_and_numbers_its_trials(tmp_path):
    entries = searched(tmp_path, 5)
    points = load_space("proselflc", {}).points_to_evaluate
    for point, entry in zip(points, entries, strict=False):
        assert {key: entry.configuration[key] for key in point} == dict(point)
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert all(entry.configuration["loss.name"] == "proselflc" for entry in entries)
    assert {entry.status for entry in entries} == {FINISHED}
    assert [entry.value for entry in entries] == [score(entry.configuration, EPOCHS) for entry in entries]


def test_the_seed_decides_the_search(tmp_path):
    suggested = [searched(tmp_path / name, 6, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert suggested[0] == suggested[1]
    assert [entry.configuration for entry in suggested[0]][3:] != [entry.configuration for entry in suggested[2]][3:]


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        pytest.param(sampler, scheduler, marks=() if sampler == "tpe" or scheduler == "asha" else pytest.mark.slow)
        for sampler in get_args(Sampler)
        for scheduler in get_args(Scheduler)
    ],
)
def test_a_search_killed_again_and_again_continues_as_an_undisturbed_one(tmp_path, sampler, scheduler):
    whole = searched(tmp_path / "whole", 14, sampler=sampler, scheduler=scheduler)
    options = {"folder": tmp_path / "killed", "sampler": sampler, "scheduler": scheduler}
    for _ in range(14):
        entry = journal(**options).suggest()
        if journal(**options).report(entry.number, 1, score(entry.configuration, 1)):
            journal(**options).stop(entry.number)
        else:
            train(journal(**options), entry.number, entry.configuration, first=2)
    assert journal(**options).entries() == whole


@pytest.mark.parametrize("scheduler", ["asha", "median", "hyperband"])
def test_stopped_trials_are_pruned_for_optuna_and_finished_ones_alone_complete(tmp_path, scheduler):
    entries = searched(tmp_path, 30, scheduler=scheduler)
    stopped = [entry for entry in entries if entry.status == STOPPED]
    finished = [entry for entry in entries if entry.status == FINISHED]
    assert stopped
    assert finished
    states = {trial.state.name for trial in optuna_trials(tmp_path)}
    assert states == {"PRUNED", "COMPLETE"}
    assert all(entry.epochs < EPOCHS for entry in stopped)
    # Stopped trials look worse than the others.
    assert max(entry.value for entry in finished) >= max(entry.value for entry in stopped)


def test_no_trial_is_stopped_in_the_grace_period(tmp_path):
    for scheduler in ("asha", "median", "hyperband"):
        space = load_space("proselflc", {})
        opened = Journal(tmp_path / scheduler, space, NOISY, 1, "tpe", make_pruner(scheduler, 6, EPOCHS))
        assert min(entry.epochs for entry in extend(opened, 30)) >= 6


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_a_journal_cut_anywhere_is_read_up_to_there(tmp_path, cut):
    """Cut the file at every byte, as a power loss may leave it."""
    entries = searched(tmp_path, 4)
    path = tmp_path / JOURNAL
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * cut // 60])
    opened = journal(tmp_path)
    for entry in opened.entries():
        if entry.status == RUNNING:
            train(opened, entry.number, entry.configuration, first=entry.epochs + 1)
    assert extend(opened, 4) == entries


def test_a_journal_of_version_0_1_is_read_and_resumed(tmp_path):
    # The space of ProSelfLC as it was in version 0.1.
    space = load_space("reweighting_control", {"loss.name": "proselflc"})

    def journal(folder):
        return Journal(folder, space, NOISY, 1)

    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(JOURNAL_OF_VERSION_0_1, old / JOURNAL)
    opened = journal(new)
    first, second, third = (opened.suggest() for _ in range(3))
    train(opened, first.number, first.configuration)
    opened.report(second.number, 1, score(second.configuration, 1))
    opened.fail(second.number, "training diverged in epoch 2", final=True)
    for epoch in (1, 2):
        opened.report(third.number, epoch, score(third.configuration, epoch))
    assert journal(old).entries() == journal(new).entries()
    assert [entry.status for entry in journal(old).entries()] == [FINISHED, FAILED, RUNNING]
    for folder in (old, new):
        train(journal(folder), third.number, third.configuration, first=3)
    assert extend(journal(old), 14) == extend(journal(new), 14)


def test_a_journal_damaged_in_its_middle_is_an_error(tmp_path):
    searched(tmp_path, 3)
    path = tmp_path / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], b'{"op_code":\n', *lines[6:]]))
    with pytest.raises(UserError, match="is damaged"):
        journal(tmp_path)


def test_zeros_that_a_power_loss_left_are_cut_off_and_the_configuration_suggested_again(tmp_path):
    """Append zeros, as in a journal of version 0.1, which wrote several lines before it waited for the disk."""
    entries = searched(tmp_path, 3)
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    journal(tmp_path).suggest()
    suggested = path.read_bytes()[len(whole) :].splitlines(keepends=True)
    path.write_bytes(whole + b"".join([suggested[0], b"\0" * len(suggested[1]), *suggested[2:]]))
    opened = journal(tmp_path)
    assert opened.entries() == entries
    assert opened.suggest().configuration == searched(tmp_path / "whole", 4)[3].configuration


def test_zeros_above_what_was_waited_for_are_damage(tmp_path):
    searched(tmp_path, 20)
    path = tmp_path / JOURNAL
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"\0" * 50 + content[250:])
    with pytest.raises(UserError, match="is damaged"):
        journal(tmp_path)


def test_a_configuration_is_on_disk_before_it_is_returned(tmp_path, monkeypatch):
    path = tmp_path / JOURNAL
    synced = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.stat().st_size))
    opened = journal(tmp_path)
    for note in (
        opened.suggest,
        lambda: opened.report(1, 1, 0.5),
        lambda: opened.stop(1),
        opened.suggest,
        lambda: opened.fail(2, "worker died", final=False),
        lambda: opened.finish(2, 2, 0.6),
        opened.suggest,
        lambda: opened.finish(3, 1, 0.6),
    ):
        before = path.stat().st_size
        note()
        assert before < path.stat().st_size == synced[-1]
    before = len(synced)
    assert not opened.report(1, 3, 0.7)  # the trial has ended: there is nothing to record
    assert len(synced) == before


@pytest.fixture
def file_size_limit():
    """Limit the size of every file that this process writes, as a full disk does, until the end of the test."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [7, 500, 1200])
def test_a_full_disk_leaves_no_half_line_and_the_configuration_is_suggested_again(tmp_path, file_size_limit, room):
    whole = searched(tmp_path / "whole", 4)
    opened = journal(tmp_path / "full")
    extend(opened, 3)
    path = tmp_path / "full" / JOURNAL
    file_size_limit(path.stat().st_size + room)
    with pytest.raises(OSError, match="File too large"):
        opened.suggest()
    assert path.read_bytes().endswith(b"}\n")
    file_size_limit(resource.RLIM_INFINITY)
    assert len(journal(tmp_path / "full").entries()) == 3
    assert journal(tmp_path / "full").suggest().configuration == whole[3].configuration


def test_a_journal_continues_after_a_full_disk_in_the_same_process(tmp_path, file_size_limit):
    opened = journal(tmp_path)
    entry = opened.suggest()
    opened.report(entry.number, 1, 0.5)
    file_size_limit((tmp_path / JOURNAL).stat().st_size + 50)
    with pytest.raises(OSError, match="File too large"):
        opened.report(entry.number, 2, 0.6)
    file_size_limit(resource.RLIM_INFINITY)
    opened.finish(entry.number, 3, 0.7)
    assert journal(tmp_path).entries() == opened.entries()
    (trial,) = optuna_trials(tmp_path)
    assert trial.intermediate_values == {1: 0.5, 3: 0.7}


def test_optuna_reads_the_journal_with_its_own_means(tmp_path):
    entries = searched(tmp_path, 3)
    assert [trial.value for trial in optuna_trials(tmp_path)] == [entry.value for entry in entries]


@pytest.mark.parametrize(
    "lock", [optuna.storages.journal.JournalFileSymlinkLock, optuna.storages.journal.JournalFileOpenLock]
)
def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path, lock):
    """Leave both kinds of Optuna's locks, as a killed tool of Optuna does; the study itself creates none."""
    path = tmp_path / JOURNAL
    searched(tmp_path, 1)
    assert list(tmp_path.iterdir()) == [path]
    lock(str(path)).acquire()
    assert len(searched(tmp_path, 2)) == 2


@pytest.mark.parametrize("trials", [4, 20])
def test_a_kill_during_a_suggestion_suggests_the_same_again(tmp_path, monkeypatch, trials):
    """Kill a suggestion also after TPE has begun to learn: the trial that was cut off does not count as running."""
    whole = searched(tmp_path / "whole", trials + 1)
    searched(tmp_path / "killed", trials)
    opened = journal(tmp_path / "killed")
    with monkeypatch.context() as patch:
        real = optuna.trial.Trial.set_user_attr

        def killing(trial, key, value):
            if key == CONFIGURATION:
                raise KeyboardInterrupt
            real(trial, key, value)

        patch.setattr(optuna.trial.Trial, "set_user_attr", killing)
        with pytest.raises(KeyboardInterrupt):
            opened.suggest()
    again = journal(tmp_path / "killed")
    assert len(again.entries()) == trials
    assert again.suggest().configuration == whole[trials].configuration


def test_no_pickled_object_is_read(tmp_path):
    for sampler in get_args(Sampler):
        if sampler != "cmaes":  # Optuna pickles its strategy into the journal
            searched(tmp_path / sampler, 12, sampler=sampler)
            assert all(json.loads(line) for line in (tmp_path / sampler / JOURNAL).read_text().splitlines())


# Spaces that prune or raise

PRUNING = """'''Mine, 2026.'''
import optuna
POINTS = [{"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-3}]
def SPACE(trial):
    lr = trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
    if lr > 1e-3:
        raise optuna.TrialPruned
    trial.suggest_float("optimizer.weight_decay", 1e-4, 1e-1, log=True)
    return {"loss.name": "cross_entropy"}
"""
RAISING = """'''Mine, 2026.'''
POINTS = []
def SPACE(trial):
    trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
    if trial.study.study_name == "search" and trial.number in (1, 2):
        {mistake}
"""


def own_journal(folder, text, sampler="tpe", fixed=None):
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(text)
    return Journal(folder, load_space(str(folder / "mine.py"), fixed or {}), NOISY, 1, sampler)


@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=pytest.mark.slow if name == "gp" else ()) for name in get_args(Sampler)]
)
def test_a_pruned_suggestion_is_no_trial_and_a_killed_search_suggests_the_same(tmp_path, sampler):
    whole = extend(own_journal(tmp_path / "whole", PRUNING, sampler), 14)
    assert [entry.number for entry in whole] == list(range(1, 15))
    assert max(entry.configuration["optimizer.lr"] for entry in whole) <= 1e-3
    assert len(optuna_trials(tmp_path / "whole")) > 14
    assert {trial.state.name for trial in optuna_trials(tmp_path / "whole")} == {"COMPLETE", "FAIL"}
    for _ in range(14):
        entry = own_journal(tmp_path / "killed", PRUNING, sampler).suggest()
        train(own_journal(tmp_path / "killed", PRUNING, sampler), entry.number, entry.configuration)
    assert own_journal(tmp_path / "killed", PRUNING, sampler).entries() == whole


@pytest.mark.parametrize("kills", [1, 3])
def test_a_kill_while_suggestions_are_pruned_suggests_the_same_again(tmp_path, monkeypatch, kills):
    whole = extend(own_journal(tmp_path / "whole", PRUNING), 13)
    extend(own_journal(tmp_path / "killed", PRUNING), 12)
    for _ in range(kills):
        opened = own_journal(tmp_path / "killed", PRUNING)
        with monkeypatch.context() as patch:
            reports = []

            def tell(study, trial, reports=reports, real=optuna.Study.tell, **options):
                if reports:
                    raise KeyboardInterrupt
                reports.append(real(study, trial, **options))

            patch.setattr(optuna.Study, "tell", tell)
            patch.setattr(optuna.trial.Trial, "set_user_attr", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                opened.suggest()
    again = own_journal(tmp_path / "killed", PRUNING)
    assert again.suggest().configuration == whole[12].configuration
    assert all(trial.state.name != "RUNNING" for trial in optuna_trials(tmp_path / "killed")[:-1])


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ('raise KeyError("lr")', "raises KeyError: 'lr' (line 6)"),
        ("raise SystemExit", "raises SystemExit (line 6)"),
        ('return {"optimizer.lr": [trial]}', "returns optimizer.lr = "),
        ('return {"loss.name": "nothing"}', "unknown loss 'nothing'"),
        ("import optuna; raise optuna.TrialPruned", ""),
    ],
)
def test_a_function_that_raises_fails_this_trial_and_the_search_goes_on(tmp_path, mistake, said):
    text = RAISING.format(mistake=mistake)
    opened = own_journal(tmp_path, text)
    entries = [opened.suggest() for _ in range(5)]
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    if not said:  # pruned suggestions are drawn again
        assert {entry.status for entry in entries} == {RUNNING}
        return
    assert [entry.status for entry in entries] == [RUNNING, FAILED, FAILED, RUNNING, RUNNING]
    for entry in entries[1:3]:
        assert entry.failure.startswith("space 'mine': ")
        assert said in entry.failure
        assert "Suggested: optimizer.lr 0.00" in entry.failure
        assert entry.final
    assert own_journal(tmp_path, text).entries() == entries


def test_a_kill_while_a_failed_suggestion_is_recorded_leaves_a_failed_trial(tmp_path, monkeypatch):
    text = RAISING.format(mistake='raise KeyError("lr")')
    opened = own_journal(tmp_path, text)
    opened.suggest()
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opened.suggest()
    again = own_journal(tmp_path, text)
    assert [entry.status for entry in again.entries()] == [RUNNING, FAILED]
    assert again.entries()[1].final
    assert again.suggest().number == 3


@pytest.mark.parametrize("room", [300, 700, 1100])
def test_a_full_disk_is_no_mistake_of_a_function(tmp_path, file_size_limit, room):
    opened = own_journal(tmp_path, PRUNING)
    extend(opened, 2)
    file_size_limit((tmp_path / JOURNAL).stat().st_size + room)
    with pytest.raises(OSError, match="File too large"):
        extend(opened, 12)
    file_size_limit(resource.RLIM_INFINITY)
    assert {entry.status for entry in own_journal(tmp_path, PRUNING).entries()} <= {FINISHED, RUNNING}


@pytest.mark.parametrize(
    ("before", "after"),
    [("[8, 16]", "[8, 16, 32]"), ("[8, 16]", "[16, 8]"), ("choice([8, 16])", "randint(8, 17)")],
)
def test_choices_that_changed_without_a_record_are_an_error(tmp_path, before, after):
    text = (
        "'''Mine, 2026.'''\nfrom ray import tune\nPOINTS = []\n"
        "SPACE = {'training.batch_size': tune.choice([8, 16]), 'optimizer.lr': tune.uniform(1e-3, 1e-2)}\n"
    )
    own_journal(tmp_path, text).suggest()
    wider = text.replace("1e-2", "2e-2")
    assert own_journal(tmp_path, wider).suggest().number == 2
    with pytest.raises(UserError, match=r"training.batch_size is .*, but one of 8, 16 in the trials so far"):
        own_journal(tmp_path, text.replace(before, after))
