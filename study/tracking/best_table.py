"""The table of the best runs as text: for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import pandas as pd

from ser.metrics.classification import METRICS
from study.console import MISSING
from study.schema import FAILED, FINISHED, RUNNING, STOPPED, Selection

OVERVIEW = tuple(name for name, metric in METRICS.items() if metric.in_overview and name != "uar")
"""Metrics with a column next to UAR."""
HEADINGS = {
    "noise": "noise",
    "rate": "rate",
    "space": "space",
    "selected": "selected by",
    "uar": "val UAR",
    "uar_best_epoch": "oracle epoch",
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
        return MISSING if value is None or pd.isna(value) else f"{value:.3f}"

    text = pd.DataFrame(index=best.index)
    text["noise"] = best["noise"]
    text["rate"] = [MISSING if pd.isna(rate) else f"{rate:.2%}" for rate in best["rate"]]
    text["space"] = best["space"]
    for column in ("selected", "uar", *OVERVIEW):
        text[column] = [number(value) for value in best[column]]
    text["uar_best_epoch"] = [
        MISSING if pd.isna(uar) else f"{uar:.3f} @ {epoch:.0f}"
        for uar, epoch in zip(best["uar_best_epoch"], best["best_epoch"], strict=True)
    ]
    text["trial"] = best["trial"]
    text["trials"] = [
        f"{row[FINISHED]}" + "".join(f", {row[name]} {name}" for name in (FAILED, STOPPED, RUNNING) if row[name])
        for row in best.to_dict("records")
    ]
    text["parameters"] = [short_parameters(parameters) for parameters in best["parameters"]]
    return text[list(HEADINGS)].rename(columns={**HEADINGS, "selected": selection.metric})


def markdown_table(text: pd.DataFrame) -> str:
    """Return a table of strings in Markdown.

    Example:
        >>> print(markdown_table(pd.DataFrame({"space": ["elr"], "UAR": ["0.500"]})))
        | space | UAR |
        | --- | --- |
        | elr | 0.500 |
    """
    header = "| " + " | ".join(map(str, text.columns)) + " |"
    rule = "| " + " | ".join("---" for _ in text.columns) + " |"
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in text.itertuples(index=False, name=None)]
    return "\n".join([header, rule, *rows])


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
