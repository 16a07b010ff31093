"""Tests of the networks that a search keeps, with a real journal and files in place of networks."""

import math
import random

import pandas as pd
import pytest

from study.schema import FINISHED, SELECTIONS
from study.search.journal import Journal
from study.search.kept_networks import KeptNetworks
from study.setup.spaces import load_space
from study.tracking.event_log import EventLog
from study.tracking.searches import Trials, best_runs
from study.trial.checkpoints import checkpoints, save_checkpoint
from study.trial.ended import ENDED, Ended, read_ended
from study.trial.specification import TrialContext, trial_folder

EPOCHS = 2
NOISY, SOFT = SELECTIONS["noisy"], SELECTIONS["soft"]


class Search:
    """Search whose trials end as a test asks.

    Args:
        folder: Its folder.
        selection: How it selects.
    """

    def __init__(self, folder, selection=NOISY):
        self.folder, self.selection = folder, selection
        self.journal = Journal(folder, load_space("cross_entropy", {}), selection, 0)

    def kept(self, keep="best"):
        return KeptNetworks(self.folder, self.journal, self.selection, keep)

    def begin(self, at=None):
        """Begin a trial, at a time; return it."""
        entry = self.journal.suggest()
        log = EventLog(trial_folder(self.folder, entry.number))
        log.begin({}, {}, {})
        if at is not None:
            path = log.folder / "records.jsonl"
            line, time = path.read_text(), str(log.lines()[0]["time"])
            path.write_text(line.replace(time, str(at)))
        return entry

    def end(self, entry, value, network=True):
        """Let a trial finish with a score; its network is there, not kept (None), or lost (False)."""
        folder = trial_folder(self.folder, entry.number)
        if network:
            save_checkpoint({"epoch": EPOCHS, "model": {}}, folder)
        else:
            Ended(EPOCHS, [], network is not None).write(folder)
        self.journal.finish(entry.number, EPOCHS, value)
        return next(one for one in self.journal.entries() if one.number == entry.number)

    @property
    def networks(self):
        """Return the numbers of the trials that have one."""
        return [one.number for one in self.journal.entries() if checkpoints(trial_folder(self.folder, one.number))]


@pytest.fixture
def search(tmp_path):
    return Search(tmp_path)


def test_the_network_of_the_best_trial_replaces_that_of_the_best_before(search):
    kept, found = search.kept(), []
    for value in (0.3, 0.2, 0.5, 0.5, 0.4, 0.6):
        search.end(search.begin(), value)
        kept.remove_beaten()
        found.append(search.networks)
    assert found == [[1], [1], [3], [3], [3], [6]]  # of equal ones the first


def test_no_network_is_removed_before_that_of_a_better_trial_is_whole(search):
    kept = search.kept()
    search.end(search.begin(), 0.3)
    better = search.end(search.begin(), 0.5, network=False)
    kept.remove_beaten()
    assert kept.remove_unkept() == ""
    assert search.networks == [1]
    assert kept.lost() == [better]
    save_checkpoint({"epoch": EPOCHS, "model": {}}, trial_folder(search.folder, 2))
    kept.remove_beaten()
    assert search.networks == [2]
    assert kept.lost() == []
    assert read_ended(trial_folder(search.folder, 2)) is None  # a kill came between the network and this


def test_a_network_on_its_way_to_the_disk_is_not_removed_under_its_writer(search):
    kept = search.kept()
    slow = search.begin()
    search.end(search.begin(), 0.5)
    folder = trial_folder(search.folder, search.end(slow, 0.3, network=False).number)
    (folder / "epoch_0002-0.pt").write_bytes(b"half")
    kept.remove_beaten()
    assert search.networks == [1, 2]
    save_checkpoint({"epoch": EPOCHS, "model": {}}, folder)
    (folder / ENDED).unlink()
    kept.remove_beaten()
    assert search.networks == [2]


def test_stopped_and_failed_trials_never_count_and_only_those_that_are_resumed_keep_their_states(search):
    ended, stopped, failed, again, running = (search.begin() for _ in range(5))
    for entry in (stopped, failed, again, running):
        search.journal.report(entry.number, 1, 0.9)
        save_checkpoint({"epoch": 1, "model": {}}, trial_folder(search.folder, entry.number))
    search.journal.stop(stopped.number)
    search.journal.fail(failed.number, "diverged", final=True)
    search.journal.fail(again.number, "out of memory", final=False)
    search.end(ended, 0.1)
    assert "removed the networks of 2 trials" in search.kept().remove_unkept()
    assert search.networks == [1, 4, 5]
    assert search.kept().remove_unkept() == ""


@pytest.mark.parametrize(("keep", "left"), [("all", [1, 2]), ("best", [2]), ("none", [])])
def test_a_resumed_search_keeps_from_then_on_what_it_is_asked_for(search, keep, left):
    search.end(search.begin(), 0.3)
    search.end(search.begin(), 0.5)
    kept = search.kept(keep)
    assert kept.missing() == ""
    assert kept.remove_unkept().endswith(f"--keep {keep}" if keep != "all" else "")
    assert search.networks == left
    # What is gone is gone, and said; it is not trained again.
    expected = {"all": "2 finished trials without", "best": "the best trial so far, 2, is gone", "none": ""}[keep]
    search.kept("none").remove_unkept()
    assert expected in search.kept(keep).missing()
    assert search.kept(keep).lost() == []


def test_networks_that_were_lost_are_those_that_are_kept(search):
    worse, best = (search.end(search.begin(), value, network=False) for value in (0.3, 0.5))
    assert search.kept("all").lost() == [worse, best]
    assert search.kept("best").lost() == [best]
    assert search.kept("none").lost() == []
    assert search.kept("best").missing() == ""


def test_a_trial_has_to_exceed_those_that_rank_before_it_where_they_are_equal(search):
    first, second = search.begin(at=1000), search.begin(at=2000)
    assert search.kept().to_exceed(first) is None
    search.end(second, 0.5)
    assert search.kept().to_exceed(first) is None  # began before the best, so it wins a tie
    assert search.kept().to_exceed(search.begin(at=3000)) == 0.5
    assert search.kept().to_exceed(search.journal.suggest()) == 0.5
    assert search.kept("all").to_exceed(search.journal.suggest()) is None


@pytest.mark.parametrize(
    ("keep", "mode", "objective", "exceed", "kept"),
    [
        ("all", "max", 0.1, 0.5, True),
        ("none", "max", 0.9, None, False),
        ("best", "max", 0.1, None, True),
        ("best", "max", 0.6, 0.5, True),
        ("best", "max", 0.5, 0.5, False),
        ("best", "min", 0.4, 0.5, True),
        ("best", "min", 0.6, 0.5, False),
        ("best", "max", math.nan, 0.5, False),
    ],
)
def test_a_trial_writes_the_network_that_may_be_the_best(keep, mode, objective, exceed, kept):
    context = TrialContext(None, {}, 0, 1, "cpu", "x", None, keep=keep, mode=mode)
    assert context.keeps(objective, exceed) is kept


@pytest.mark.parametrize("selection", [NOISY, SOFT], ids=lambda one: one.mode)
def test_the_best_is_that_of_the_table_of_best_runs(tmp_path, selection):
    """Compare with the table over random scores, many of them equal, in a random order of beginning and ending."""
    rng = random.Random(0)
    for number in range(2):
        search = Search(tmp_path / str(number), selection)
        times = rng.sample(range(1000, 9000), 6)
        entries = [search.begin(at=at) for at in times]
        values = {}
        for entry in rng.sample(entries, 6):
            values[entry.number] = rng.choice([0.25, 0.5, 0.75])
            search.end(entry, values[entry.number])
        rows = [
            {
                "noise": "clean", "rate": 0.0, "space": "s", "trial": f"{one.number:03d}", "status": FINISHED,
                "selected": values[one.number], "start": at, "run_id": str(one.number), "parameters": {}, "planned": 6,
            }
            for one, at in zip(entries, times, strict=True)
        ]  # fmt: skip
        table = best_runs(Trials(pd.DataFrame(rows), selection, 0.5, 0))
        search.kept().remove_unkept()
        assert search.networks == [int(table["trial"].iloc[0])]
