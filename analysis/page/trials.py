"""Section with every trial of both stages in one table, which the page sorts and filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analysis.common.parameters import short_name
from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.common.text import MISSING, counted, number, percent
from analysis.options import RecordsOptions
from study.schema import in_words

TITLE = "All trials"
Options = RecordsOptions
COLUMNS = {
    "space": "method",
    "noise": "noise level",
    "stage": "stage",
    "configuration": "configuration",
    "fold": "fold",
    "seed": "seed",
    "status": "status",
    "selected": "validation score",
    "test_uar": "test UAR",
    "parameters": "parameters searched",
    "study": "study",
    "run_id": "MLflow run",
}
"""Column of the CSV file → its heading on the page."""
FILTERS = ("method", "noise level", "stage", "status", "study")
SHORT_ID = 8
"""Number of letters of an MLflow run id on the page; the CSV file has them all."""


def section(records: Records, options: RecordsOptions) -> Section:
    """Return the section of all trials.

    Args:
        records: Records of the experiment.
        options: No option is used.
    """
    data = pd.concat([_searched(records), _confirmed(records)], ignore_index=True)
    data = data.sort_values(["rate", "noise", "space"], kind="stable")[[*COLUMNS]]
    score = number if records.selection.mode == "min" else _percent
    text = pd.DataFrame({name: data[name].map(_cell(name, score)) for name in COLUMNS}).rename(columns=COLUMNS)
    shown = text.drop(columns=[name for name in text if (text[name] == MISSING).all()])
    caption = (
        f"{counted(len(data), 'trial')}; the validation score is the {records.selection.meaning}. A run id of the CSV "
        "file finds the trial in MLflow"
    )
    data["parameters"] = data["parameters"].map(_listed)
    filters = tuple(name for name in FILTERS if shown.get(name, pd.Series(dtype=str)).nunique() > 1)
    return Section("trials", TITLE, tables=(NamedTable("trials", caption, data, shown, keys=2, filters=filters),))


def _searched(records: Records) -> pd.DataFrame:
    """Return the trials of the search."""
    if records.search is None:
        return pd.DataFrame()
    table = records.search.table.sort_values("trial")
    return table.assign(stage="search", configuration=[f"trial {name}" for name in table["trial"]])


def _confirmed(records: Records) -> pd.DataFrame:
    """Return the trials of the confirmations, with the parameters that a search varied."""
    table = records.confirmed
    chosen = [
        {name: values[name] for name in searched if name in values}
        for values, searched in zip(table["parameters"], table["searched"], strict=True)
    ]
    searched_values = pd.Series(chosen, index=table.index, dtype=object)
    return table.assign(
        stage="confirmation", configuration=table["candidate"], test_uar=table["uar"], parameters=searched_values
    )


def _percent(value: float | None) -> str:
    return percent(value, 1)


def _cell(name: str, score: Callable[[float | None], str]) -> Callable[[Any], str]:
    """Return what turns a value of a column into text."""
    if name in ("selected", "test_uar"):
        return score if name == "selected" else _percent
    if name == "parameters":
        return lambda values: ", ".join(f"{short_name(key)} {_rounded(value)}" for key, value in values.items())
    if name in ("fold", "seed"):
        return lambda value: MISSING if pd.isna(value) else str(int(value))
    return {"space": in_words, "run_id": lambda value: value[:SHORT_ID]}.get(name, str)


def _rounded(value: str) -> str:
    """Return a recorded value with three digits if it is a decimal number."""
    try:
        return f"{float(value):.3g}" if "." in value or "e" in value else value
    except ValueError:
        return value


def _listed(values: Mapping[str, str]) -> str:
    """Return parameters with all digits, for the CSV file."""
    return " ".join(f"{name}={value}" for name, value in values.items())
