"""Finished trials of each search, for the analyses of a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.common.parameters import Parameter, parameters_of
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection
from study.tracking.searches import Trials

ONE_SEED = (
    "Scores are of the validation subset, one seed and one fold, and the search chose by them: they describe the "
    "search and do not show which loss is better."
)


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
        """Return the noise level and the space."""
        return f"{self.noise} {self.space}"

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
    return [f"Only finished trials are compared; left out: {named}."]
