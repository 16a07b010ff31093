"""Finished trials of each search, for the analyses of a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.common.parameters import Parameter, parameters_of
from analysis.common.records import Records
from analysis.common.text import number
from ser.metrics.absent_classes import over_classes
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection, absent_of, in_words
from study.tracking.searches import Trials

ONE_SEED = (
    "Scores are of the validation subset, with one seed and one fold, and the search chose by them: they describe the "
    "search and do not show which loss is better."
)
WORDS = {
    "val_noisy/uar": "validation UAR against noisy labels",
    "val/uar": "validation UAR against true labels",
    "val/soft_ce": "validation cross entropy against the annotators' votes",
}
"""Metric of a selection rule → its name in words."""


@dataclass(frozen=True)
class Score:
    """Score of a search's trials as people write it.

    Args:
        metric: Name in the records, a key of ``WORDS``.
        over: Over how many classes a UAR is, such as ``over 3 of 4 classes``; empty if it is over all of them.
    """

    metric: str
    over: str = ""

    @property
    def name(self) -> str:
        """Return the score in words."""
        return f"{WORDS[self.metric]} {self.over}".strip()

    @property
    def scale(self) -> float:
        """Return the factor from recorded to displayed values."""
        return 100.0 if self.metric.endswith("uar") else 1.0

    @property
    def axis(self) -> str:
        """Return the title of an axis, with its unit."""
        over = f",\n{self.over}" if self.over else ""
        return f"{WORDS[self.metric]}{over}, {'%' if self.scale > 1 else 'nats'}"

    def number(self, value: float | None) -> str:
        """Return a recorded value for a table whose heading has the unit.

        Example:
            >>> Score("val/uar").number(0.5814), Score("val/soft_ce").number(1.2)
            ('58.1', '1.200')
        """
        return number(None if value is None else self.scale * value, 1 if self.scale > 1 else 3)

    def text(self, value: float | None) -> str:
        """Return a recorded value with its unit.

        Example:
            >>> Score("val/uar").text(0.5814), Score("val/soft_ce").text(1.2)
            ('58.1%', '1.200 nats')
        """
        return f"{self.number(value)}{'%' if self.scale > 1 else ' nats'}"


def score_of_search(records: Records, metric: str) -> Score:
    """Return a score of the search that is shown, with the number of classes that UAR is over.

    Args:
        records: Records of the experiment.
        metric: Name in the records.
    """
    classes = len(records.classes)
    over = {over_classes(absent_of(run.data.tags), classes, metric) for run in records.matched.search}
    return Score(metric, over.pop() if len(over) == 1 else "over the classes present" if over else "")


@dataclass(frozen=True)
class Search:
    """Finished trials of one noise level and space.

    Args:
        noise: Noise level.
        space: Search space.
        trials: Rows of ``study.tracking.searches.Trials.table`` with a score that chooses, the earliest first.
        unfinished: Status → number of trials that are not compared.
        study: Newest study with trials of this search.
    """

    noise: str
    space: str
    trials: pd.DataFrame
    unfinished: dict[str, int]
    study: str

    @property
    def title(self) -> str:
        """Return the noise level and the method in words."""
        return f"{self.noise}, {in_words(self.space)}"

    @property
    def configurations(self) -> list[dict[str, str]]:
        """Return the searched parameters of each trial."""
        return list(self.trials["parameters"])

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the (n,) scores that choose."""
        return self.trials["selected"].to_numpy(dtype=np.float64)

    def best(self, selection: Selection) -> int:
        """Return the number of the row that the search chose."""
        return int(self.scores.argmax() if selection.mode == "max" else self.scores.argmin())

    def parameters(self) -> list[Parameter]:
        """Return the parameters that all trials have and that differ between them."""
        return parameters_of(self.space, self.configurations) if len(self.trials) else []


def searches(trials: Trials) -> Iterator[Search]:
    """Yield every search, ordered by noise rate, level and space.

    Args:
        trials: Comparable trials.
    """
    table = trials.table.assign(rate=trials.table["rate"].astype(float))
    for (_, noise, space), group in table.groupby(["rate", "noise", "space"], dropna=False, sort=True):
        done = group[(group["status"] == FINISHED) & group["selected"].notna()]
        counts = {name: int((group["status"] == name).sum()) for name in (FAILED, STOPPED, RUNNING)}
        ended = {name: count for name, count in counts.items() if count}
        newest = str(group.sort_values(["start", "run_id"])["study"].iloc[-1])
        ordered = done.sort_values(["start", "run_id"]).reset_index(drop=True)
        yield Search(str(noise), str(space), ordered, ended, newest)


def left_out(found: list[Search]) -> list[str]:
    """Return sentences on the trials that are not compared.

    Args:
        found: The searches.
    """
    counts = {name: sum(search.unfinished.get(name, 0) for search in found) for name in (FAILED, STOPPED, RUNNING)}
    if not any(counts.values()):
        return []
    named = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [f"Only finished trials are shown; left out: {named}."]
