"""The table of the best runs as text: for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ser.metrics.classification import METRICS
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection

OVERVIEW = tuple(name for name, metric in METRICS.items() if metric.in_overview and name != "uar")
"""Metrics with a column next to UAR."""
HEADINGS = {
    "noise": "noise",
    "rate": "rate",
    "space": "space",
    "selected": "selected by",
    "uar": "val UAR",
    "uar_best_epoch": "best epoch",
    **{name: METRICS[name].heading for name in OVERVIEW},
    "trial": "trial",
    "trials": "finished",
    "parameters": "parameters",
}
PARAMETERS = HEADINGS["parameters"]


def text_table(best: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the table of the best runs as strings.

    Args:
        best: Table from ``study.tracking.searches.best_runs``.
        selection: Rule by which the runs were chosen.

    Returns:
        Strings only, under ``HEADINGS``; ``–`` where there is no value.
    """

    def number(value: float | None) -> str:
        return "–" if value is None or pd.isna(value) else f"{value:.3f}"

    text = pd.DataFrame(index=best.index)
    text["noise"] = best["noise"]
    text["rate"] = ["–" if pd.isna(rate) else f"{rate:.2%}" for rate in best["rate"]]
    text["space"] = best["space"]
    for column in ("selected", "uar", *OVERVIEW):
        text[column] = [number(value) for value in best[column]]
    text["uar_best_epoch"] = [
        "–" if pd.isna(uar) else f"{uar:.3f} @ {epoch:.0f}"
        for uar, epoch in zip(best["uar_best_epoch"], best["best_epoch"], strict=True)
    ]
    text["trial"] = best["trial"]
    text["trials"] = [
        f"{row[FINISHED]}" + "".join(f", {row[name]} {name}" for name in (FAILED, STOPPED, RUNNING) if row[name])
        for row in best.to_dict("records")
    ]
    text["parameters"] = [short_parameters(parameters) for parameters in best["parameters"]]
    return text[list(HEADINGS)].rename(columns={**HEADINGS, "selected": selection.metric})


def short_parameters(parameters: dict[str, str]) -> str:
    """Return searched parameters in one line, numbers to three digits, names without their section.

    Example:
        >>> short_parameters({"optimizer.lr": "0.00123456", "loss.trust": "entropy"})
        'trust=entropy, lr=0.00123'
    """

    def short(value: str) -> str:
        try:
            return f"{float(value):.3g}"
        except ValueError:
            return value

    return ", ".join(f"{name.partition('.')[2]}={short(value)}" for name, value in sorted(parameters.items()))


def rich_table(text: pd.DataFrame, title: str) -> Group:
    """Return the table for the terminal, with the parameters in a line for each run below it.

    Args:
        text: Table from ``text_table``.
        title: Title above the table.
    """
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = text.drop(columns=PARAMETERS)
    for column in shown.columns:
        table.add_column(str(column), justify="left" if column in {"noise", "space"} else "right")
    levels = list(text["noise"])
    for row, following in zip(shown.itertuples(index=False), [*levels[1:], None], strict=True):
        table.add_row(*map(str, row), end_section=following not in (None, row[0]))
    lines = [
        Text(f"  {row['noise']} {row['space']} {row['trial']}: {row[PARAMETERS] or '–'}")
        for row in text.to_dict("records")
    ]
    return Group(table, Text("parameters:"), *lines)
