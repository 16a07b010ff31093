"""The finished trials of each search, as the analyses of a search compare them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.common.parameters import Axis, axes_of
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection
from study.tracking.searches import Trials

ONE_SEED = (
    "Scores are of the validation part, one seed and one fold, and the search has looked at them: they describe the "
    "search and do not tell which loss is better."
)


@dataclass(frozen=True)
class Search:
    """The finished trials of one noise level and space.

    Args:
        noise: Noise level.
        space: Search space.
        trials: Rows of ``study.tracking.searches.Trials.table`` with a selected score, the earliest first.
        unfinished: Trials that are not compared, by how they ended.
        study: The newest study that has trials of this search.
    """

    noise: str
    space: str
    trials: pd.DataFrame
    unfinished: dict[str, int]
    study: str

    @property
    def title(self) -> str:
        """Noise level and space."""
        return f"{self.noise} {self.space}"

    @property
    def parameters(self) -> list[dict[str, str]]:
        """Searched parameters of each trial."""
        return list(self.trials["parameters"])

    @property
    def scores(self) -> NDArray[np.float64]:
        """(n,) the score that chose."""
        return self.trials["selected"].to_numpy(dtype=np.float64)

    def best(self, selection: Selection) -> int:
        """Number of the row that the search chose."""
        return int(self.scores.argmax() if selection.mode == "max" else self.scores.argmin())

    def axes(self) -> list[Axis]:
        """The parameters that all trials have and that differ; none without a trial."""
        return axes_of(self.space, self.parameters) if len(self.trials) else []


def searches(trials: Trials) -> Iterator[Search]:
    """Every search, by noise rate, level and space.

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


def left_out(found: list[Search], others: int) -> list[str]:
    """What was not compared, in words.

    Args:
        found: The searches.
        others: Trials of another protocol.
    """
    lines = []
    counts = {name: sum(search.unfinished.get(name, 0) for search in found) for name in (FAILED, STOPPED, RUNNING)}
    if any(counts.values()):
        named = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        lines.append(f"Only finished trials are compared; left out: {named}.")
    if others:
        lines.append(
            f"{others} other trials of this experiment were left out: another corpus state, fold, size or plan."
        )
    return lines
