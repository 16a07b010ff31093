"""Test UAR of the methods of a confirmation at each noise level, with what may be drawn around it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.common.families import Family
from analysis.common.records import Records
from analysis.common.text import listing, number, percent
from analysis.inference import NOT_POSSIBLE, method_scores, smallest_p
from study.schema import AT_STOP
from study.setup.power import ALPHA

CELL = ["level", "method"]
COLUMNS = [*CELL, "rate", "uar", "low", "high", "by_unit", "unit", "units"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Test UARs of a confirmation.

    Args:
        table: One row per noise level and method with all of its trainings, levels by noise rate, the reference first:
            ``level``, ``method``, ``rate`` (share of wrong training labels, 0 to 1, NaN if unknown) and the columns of
            ``analysis.inference.method_scores``.
        has_intervals: Whether there are enough units for an interval; else the single units are shown.
    """

    table: pd.DataFrame
    has_intervals: bool

    @property
    def unit(self) -> str:
        """Return the kind of the units: ``fold`` or ``training``."""
        return str(self.table["unit"].iloc[0])

    @property
    def units(self) -> int:
        """Return the number of units."""
        return int(self.table["units"].iloc[0])

    def text(self, level: str, method: str) -> str:
        """Return a score as displayed, with its interval or its single units; empty if there is none.

        Args:
            level: Noise level.
            method: Method.
        """
        found = self.table[(self.table["level"] == level) & (self.table["method"] == method)]
        return "".join(f"{percent(row['uar'], 1)} ({self.around(row)})" for row in found.to_dict("records"))

    def short(self, row: Mapping[Hashable, Any]) -> str:
        """Return a score in percent for a table, with its interval, or with its lowest and highest unit.

        Args:
            row: Of ``table``.
        """
        low, high = (row["low"], row["high"]) if self.has_intervals else (min(row["by_unit"]), max(row["by_unit"]))
        return f"{number(100 * row['uar'], 1)} ({number(100 * low, 1)}–{number(100 * high, 1)})"

    def around(self, row: Mapping[Hashable, Any]) -> str:
        """Return the interval of a score, or the scores of its single units, in percent.

        Args:
            row: Of ``table``.
        """
        if self.has_intervals:
            return f"95 % interval {number(100 * row['low'], 1)} to {number(100 * row['high'], 1)}"
        names = f"{row['unit']}s" if row["units"] > 1 else f"one {row['unit']}"
        return f"{names}: {listing([number(100 * score, 1) for score in row['by_unit']])}"


def read_scores(records: Records, family: Family) -> Scores:
    """Return the test UARs of a confirmation, of the folds that all shown methods have.

    Args:
        records: Records of the experiment.
        family: One of its confirmations.

    Returns:
        Only methods none of whose planned trainings is missing.

    Raises:
        UserError: If methods were tested on different utterances.
    """
    results = family.results.table
    lacking = set(family.missing[["noise", "space"]].itertuples(index=False, name=None))
    names = results["method"].str.removesuffix(AT_STOP)
    results = results[[cell not in lacking for cell in zip(results["level"], names, strict=True)]]
    results = _whole_folds(results)
    if results.empty:
        return Scores(pd.DataFrame(columns=COLUMNS), has_intervals=False)
    trials = records.confirmed[records.confirmed["study"] == family.study]
    rates = trials.drop_duplicates("noise").set_index("noise")["rate"].astype(float)
    order = list(dict.fromkeys([family.reference, *family.compared["method"], *results["method"]]))
    table = method_scores(results).assign(
        rate=lambda found: found["level"].map(rates), place=lambda found: found["method"].map(order.index)
    )
    table = table.sort_values(["rate", "level", "place"], kind="stable", na_position="last")
    possible = not (family.compared["verdict"] == NOT_POSSIBLE).any()
    return Scores(table[COLUMNS].reset_index(drop=True), possible and smallest_p(table["units"].iloc[0]) <= ALPHA)


def _whole_folds(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the folds in which every method of every level has every seed."""
    trained = results[[*CELL, "fold", "seed"]].drop_duplicates()
    whole = len(trained[CELL].drop_duplicates()) * trained["seed"].nunique()
    counts = trained.groupby("fold").size()
    return results[results["fold"].isin(counts.index[counts == whole])]
