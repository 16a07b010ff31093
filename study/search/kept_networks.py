"""The networks of a search's trials on disk: which are kept, which are removed, and which were lost."""

from __future__ import annotations

import math
from pathlib import Path

from ser.utils.output_files import size_text
from study.schema import FAILED, FINISHED, STOPPED, Keep, Selection
from study.search.journal import Entry, Journal
from study.tracking.event_log import begun_at
from study.trial.checkpoints import checkpoints
from study.trial.ended import ENDED, has_network, read_ended, remove_network
from study.trial.specification import trial_folder


class KeptNetworks:
    """The networks of the trials of one search that have ended for good.

    The best trial is that of the table of best runs: finished, with the best score, of equal ones the first that began.

    Args:
        folder: Folder of the search, locked by the caller.
        journal: Its journal.
        selection: Score that the search maximises or minimises.
        keep: Networks of finished trials that stay on disk.
    """

    def __init__(self, folder: Path, journal: Journal, selection: Selection, keep: Keep) -> None:
        self._folder, self._journal, self._keep = folder, journal, keep
        self._sign = 1.0 if selection.mode == "max" else -1.0
        self._whole: set[int] = set()  # numbers of trials whose networks were found to be whole
        self._removed: set[int] = set()
        self._times: dict[int, float] = {}

    def to_exceed(self, entry: Entry) -> float | None:
        """Return the score that a trial has to exceed for its network to be kept; None if any score will do.

        Args:
            entry: The trial, which is about to begin or to continue.
        """
        if self._keep != "best":
            return None
        began = self._began(entry)
        values = [one.value for one in self._finished() if one.value is not None and self._began(one) < began]
        return max(values, key=lambda value: self._sign * value, default=None)

    def remove_beaten(self) -> None:
        """Remove the networks of finished trials that are not the best any more, once that of the best is whole.

        Trials may run: a network that is being written stays.
        """
        best = self._best()
        if self._keep != "best" or best is None or not self._is_whole(best):
            return
        for entry in self._finished():
            folder = self._of(entry)
            if entry == best or entry.number in self._removed or ((ended := read_ended(folder)) and ended.keeps):
                continue
            remove_network(folder)
            self._removed.add(entry.number)

    def remove_unkept(self) -> str:
        """Remove the states of all trials that have ended for good but those that are kept, while no trial runs.

        Returns:
            What was removed, for people; empty if nothing was.
        """
        if self._keep == "all":
            return ""
        entries = self._journal.entries()
        removed = [one for one in entries if one.status == STOPPED or (one.status == FAILED and one.final)]
        best = self._best() if self._keep == "best" else None
        if best is None or self._is_whole(best):
            removed += [one for one in self._finished() if one != best]
        files = {one.number: checkpoints(self._of(one)) for one in removed}
        size = sum(path.stat().st_size for paths in files.values() for path in paths)
        for one in removed:
            remove_network(self._of(one))
        count = sum(map(bool, files.values()))
        trials = f"{count} trial{'s' * (count > 1)}"
        return f"removed the networks of {trials}, {size_text(size)}: --keep {self._keep}" if count else ""

    def lost(self) -> list[Entry]:
        """Return the finished trials whose networks are to be kept, but whose processes died while they wrote them.

        No trial may run.
        """
        found = []
        for entry in self._kept():
            folder = self._of(entry)
            if (ended := read_ended(folder)) is None or not ended.keeps:
                continue
            if has_network(folder):
                (folder / ENDED).unlink()
            else:
                found.append(entry)
        return found

    def missing(self) -> str:
        """Return which networks that are to be kept are not there any more, for people; empty if all are.

        No trial may run. Those that are trained again do not count.
        """
        lost = self.lost()
        gone = [one for one in self._kept() if one not in lost and not checkpoints(self._of(one))]
        if not gone:
            return ""
        if self._keep == "best":
            return f"the network of the best trial so far, {gone[0].number}, is gone: that of a better one will be kept"
        trials = f"{len(gone)} finished trial{'s' * (len(gone) > 1)}"
        return f"{trials} without a network, not kept or removed; the networks of later trials will be kept"

    def _kept(self) -> list[Entry]:
        """Return the finished trials whose networks are to be kept."""
        best = self._best()
        return {"all": self._finished(), "best": [] if best is None else [best], "none": []}[self._keep]

    def _best(self) -> Entry | None:
        return min(
            self._finished(),
            key=lambda one: (-self._sign * (one.value or 0.0), self._began(one), one.number),
            default=None,
        )

    def _finished(self) -> list[Entry]:
        return [entry for entry in self._journal.entries() if entry.status == FINISHED]

    def _is_whole(self, entry: Entry) -> bool:
        if entry.number not in self._whole and has_network(self._of(entry)):
            self._whole.add(entry.number)
        return entry.number in self._whole

    def _began(self, entry: Entry) -> float:
        """Return when a trial began, in milliseconds since 1970; infinity if it has not."""
        if entry.number not in self._times:
            began = begun_at(self._of(entry))
            if began is None:
                return math.inf
            self._times[entry.number] = float(began)
        return self._times[entry.number]

    def _of(self, entry: Entry) -> Path:
        return trial_folder(self._folder, entry.number)
