"""Reads the records back and ranks what is comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from study.schema import FAILED, FINISHED, KIND, RUNNING, SEARCH, SELECTIONS, STOPPED, TRIAL, Selection, Tag, status_of
from study.tracking.store import classes_of, quoted, search_all

# Column of the best table → metric of the records, all at the last epoch but the two of the best one.
SCORES = {
    "uar": "val/uar",
    "uar_best_epoch": "best/val_uar",
    "best_epoch": "best/epoch",
    "wa": "val/wa",
    "f1_weighted": "val/f1_weighted",
    "f1_macro": "val/f1_macro",
    "ece": "val/ece",
    "uar_noisy": "val_noisy/uar",
    "soft_ce": "val/soft_ce",
}
TABLE_WIDTH = 120
HEADINGS = {
    "noise": "noise",
    "rate": "rate",
    "space": "space",
    "selected": "selected by",
    "uar": "val UAR",
    "uar_best_epoch": "best epoch",
    "wa": "WA",
    "f1_weighted": "F1 wtd",
    "f1_macro": "F1 mac",
    "ece": "ECE",
    "trial": "trial",
    "trials": "finished",
    "parameters": "parameters",
}
PARAMETERS = HEADINGS["parameters"]


@dataclass(frozen=True)
class Trials:
    """Comparable trials of an experiment, and what was left out.

    Args:
        table: One row for each trial: tags, scores, ``parameters`` (searched names → values), ``run_id``.
        selection: How configurations are chosen.
        chance: UAR of guessing.
        others: Trials of the experiment with another protocol (corpus, fold, epochs, width, …).
    """

    table: pd.DataFrame
    selection: Selection
    chance: float
    others: int


def read_trials(client: MlflowClient, experiment: str, study: str | None = None) -> Trials | None:
    """The search trials that can be compared with the newest one, all of the same protocol.

    Args:
        client: The MLflow store.
        experiment: MLflow experiment id.
        study: Only this study's trials; None is every study of the experiment.

    Returns:
        The trials, or None if there are none.
    """
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STAGE}` = '{SEARCH}'"
    if study is not None:
        query += f" and tags.`{Tag.STUDY}` = {quoted(study)}"
    return trials_of(search_all(client, [experiment], query), study)


def trials_of(runs: Sequence[Run], study: str | None = None) -> Trials | None:
    """The search trials among some runs that can be compared with the newest one, all of the same protocol.

    Args:
        runs: Runs of an experiment, of any kind.
        study: Only this study's trials; None is every study's.

    Returns:
        The trials, or None if there are none.
    """
    wanted = {KIND: TRIAL, Tag.STAGE: SEARCH} | ({} if study is None else {Tag.STUDY: study})
    runs = [run for run in runs if Tag.PROTOCOL in run.data.tags and wanted.items() <= run.data.tags.items()]
    if not runs:
        return None
    newest = max(runs, key=lambda run: (run.info.start_time, run.info.run_id))
    protocol = newest.data.tags[Tag.PROTOCOL]
    selection = SELECTIONS[newest.data.tags[Tag.SELECT_ON]]
    same = [run for run in runs if run.data.tags[Tag.PROTOCOL] == protocol]
    rows = [_row(run, selection) for run in same]
    return Trials(pd.DataFrame(rows), selection, 1 / len(classes_of(newest)), len(runs) - len(same))


def _row(run: Run, selection: Selection) -> dict[str, object]:
    tags, metrics = run.data.tags, run.data.metrics
    searched = [name for name in tags[Tag.SEARCHED].split(",") if name]
    return {
        "noise": tags[Tag.NOISE],
        "rate": float(tags[Tag.NOISE_RATE]) if tags[Tag.NOISE_RATE] not in {"", "None"} else None,
        "space": tags[Tag.SPACE],
        "study": tags[Tag.STUDY],
        "trial": tags[Tag.TRIAL],
        "status": status_of(tags, RUNNING if run.info.status == "RUNNING" else STOPPED),
        "failure": tags.get(Tag.FAILURE, ""),
        "selected": metrics.get(selection.metric),
        **{column: metrics.get(metric) for column, metric in SCORES.items()},
        "parameters": {name: run.data.params[name] for name in searched if name in run.data.params},
        "start": run.info.start_time,
        "run_id": run.info.run_id,
    }


def best_runs(trials: Trials, top: int = 1) -> pd.DataFrame:
    """The best finished trials of each noise level and space.

    Args:
        trials: From ``read_trials``.
        top: How many of each.

    Returns:
        Sorted by noise rate, then space, then rank: the columns of ``Trials.table``, ``rank``, ``finished``,
        ``failed``, ``stopped`` and ``running`` (counts for that level and space). A level and space without a
        finished trial has one row without a score, so that it is not silently missing.
    """
    rows = []
    for (noise, space), group in trials.table.groupby(["noise", "space"], sort=False):
        counts = {name: int((group["status"] == name).sum()) for name in (FINISHED, FAILED, STOPPED, RUNNING)}
        done = group[group["status"] == FINISHED]
        order = done.sort_values(
            ["selected", "start", "run_id"], ascending=[trials.selection.mode == "min", True, True]
        ).head(top)
        found = order.to_dict("records") or [
            {"noise": noise, "space": space, "rate": group["rate"].iloc[0], "parameters": {}, "trial": "none"}
        ]
        rows += [{**record, "rank": rank, **counts} for rank, record in enumerate(found, start=1)]
    table = pd.DataFrame(rows).reindex(columns=[*trials.table.columns, "rank", FINISHED, FAILED, STOPPED, RUNNING])
    table["rate"] = table["rate"].astype(float)
    return table.sort_values(["rate", "noise", "space", "rank"], kind="stable").reset_index(drop=True)


def display(best: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """The best table as text, for the terminal, Markdown and LaTeX.

    Args:
        best: From ``best_runs``.
        selection: How they were chosen.

    Returns:
        All columns strings; ``–`` where there is no value.
    """

    def number(value: float | None, digits: int = 3) -> str:
        return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"

    text = pd.DataFrame(index=best.index)
    text["noise"] = best["noise"]
    text["rate"] = ["–" if pd.isna(rate) else f"{rate:.2%}" for rate in best["rate"]]
    text["space"] = best["space"]
    text["selected"] = [number(value) for value in best["selected"]]
    for column in ("uar", "wa", "f1_weighted", "f1_macro", "ece"):
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
    headings = {**HEADINGS, "selected": selection.metric}
    return text[list(HEADINGS)].rename(columns=headings)


def short_parameters(parameters: dict[str, str]) -> str:
    """Searched parameters in one line, numbers to three digits, less their section."""

    def short(value: str) -> str:
        try:
            return f"{float(value):.3g}"
        except ValueError:
            return value

    return ", ".join(f"{name.partition('.')[2]}={short(value)}" for name, value in sorted(parameters.items()))


def rich_table(text: pd.DataFrame, title: str) -> Group:
    """The best table for the terminal; the parameters stand below it, one line for each run.

    Args:
        text: From ``display``.
        title: Above the table.
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


def make_console() -> Console:
    """A console for tables: a file or a pipe, which has no width of its own, gets one that holds them."""
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)


def caveats(trials: Trials, best: pd.DataFrame) -> list[str]:
    """What a reader of the best table must know.

    Args:
        trials: The trials behind it.
        best: From ``best_runs``.
    """
    lines = [
        f"Chosen by {trials.selection.meaning}; scores are of the validation part, one seed, last epoch. "
        "The search has picked the luckiest of several: no claim about the losses follows before a confirmation."
    ]
    counts = best[best["rank"] == 1][["noise", "space", FINISHED]]
    for noise, group in counts.groupby("noise", sort=False):
        if group[FINISHED].nunique() > 1:
            budget = ", ".join(f"{row['space']} {row[FINISHED]}" for row in group.to_dict("records"))
            lines.append(f"Unequal budgets at {noise}: {budget} finished trials.")
    if trials.others:
        lines.append(
            f"{trials.others} other trials of this experiment were left out: another corpus state, fold, size or plan."
        )
    return lines
