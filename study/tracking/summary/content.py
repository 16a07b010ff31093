"""What is said of the trials of a search or of a confirmation at a noise level: which are chosen, with what scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from mlflow.entities import Run

from study.schema import (
    CHOSEN_BY,
    COUNT,
    FAILED,
    FINISHED,
    RATE,
    RUNNING,
    SEARCH,
    SECONDS,
    SELECTIONS,
    STOPPED,
    SYSTEM,
    Selection,
    Tag,
    rate_of,
    status_of,
)
from study.tracking.best_table import text_table
from study.tracking.confirmations import chosen, confirmed_table
from study.tracking.matching import is_whole
from study.tracking.searches import best_runs, trials_of

SHOWN = 5
"""Best trials of a search in its table."""

TEST_UAR = "test/last/uar"

NO_SCORES = ("/epoch", "/lr", SECONDS)
"""Ends of the names of metrics that are no scores, whose charts would be the first ones that MLflow shows."""


@dataclass(frozen=True)
class Point:
    """Trial in the figure.

    Args:
        place: Number of the trial in a search, of the fold in a confirmation.
        score: Its score.
        chosen: Whether it is one of those that stand for the method.
    """

    place: int
    score: float
    chosen: bool


@dataclass(frozen=True)
class Content:
    """Content of a parent run about its trials.

    Args:
        metrics: Scores of the chosen trial, in a confirmation means over the chosen ones; the noise rate; counts.
        chosen: What was chosen: the number of the trial and its run, with its searched parameters by dotted name; in a
            confirmation how often each candidate was.
        how: Sentence on how.
        table: The chosen trial and those next to it; in a confirmation the chosen ones. For machines.
        text: The same for people.
        points: All finished trials, for the figure.
        axes: Titles of the figure's axes.
        chance: UAR of guessing; None where the score is none.
    """

    metrics: Mapping[str, float]
    chosen: Mapping[str, str] = field(default_factory=dict)
    how: str = "No trial has finished."
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    text: pd.DataFrame = field(default_factory=pd.DataFrame)
    points: Sequence[Point] = ()
    axes: tuple[str, str] = ("", "")
    chance: float | None = None


def content_of(parent: Run, trials: Iterable[Run], classes: int) -> Content:
    """Return what a parent run says of its trials.

    Args:
        parent: The parent run.
        trials: Runs of its trials.
        classes: Number of classes.
    """
    runs = [run for run in trials if is_whole(run)]
    counts = Counter(status_of(run.data.tags, RUNNING) for run in runs)
    rate = rate_of(parent.data.tags)
    numbers = {
        **({} if rate is None else {RATE: rate}),
        f"{COUNT}planned": float(parent.data.tags.get(Tag.PLANNED_TRIALS, len(runs))),
        **{f"{COUNT}{status}": float(counts[status]) for status in (FINISHED, STOPPED, FAILED)},
    }
    if not counts[FINISHED]:
        return Content(numbers)
    if runs[0].data.tags[Tag.STAGE] == SEARCH:
        return _of_search(runs, numbers, classes)
    return _of_confirmation(runs, numbers, classes)


def _of_search(runs: Sequence[Run], numbers: Mapping[str, float], classes: int) -> Content:
    trials = trials_of(runs, {run.info.run_id: run.data.tags[Tag.SPACE] for run in runs})
    assert trials is not None
    selection, best = trials.selection, best_runs(trials, SHOWN)
    first = best.iloc[0]
    run = next(run for run in runs if run.info.run_id == first["run_id"])
    done = trials.table[trials.table["status"] == FINISHED].dropna(subset=["selected"])
    parameters: Mapping[str, str] = first["parameters"]
    columns = ["rank", "trial", "selected", "uar", "uar_best_epoch", "best_epoch", "run_id"]
    searched = pd.DataFrame(list(best["parameters"]), index=best.index)
    text = text_table(best, selection)
    return Content(
        metrics={**_scores([run]), **numbers},
        chosen={"trial": run.data.tags[Tag.TRIAL], "run": str(run.info.run_id), **parameters},
        how=f"Trial {run.data.tags[Tag.TRIAL]} was chosen by {selection.meaning}; this run has its scores. It is the "
        "best of several trials with one seed, which is partly luck: a confirmation tests it on other speakers.",
        table=pd.concat([best[columns].rename(columns={"selected": selection.metric}), searched], axis="columns"),
        text=text[["trial", *(name for name in text if name not in ("trial", "noise", "rate", "space", "finished"))]],
        points=[
            Point(int(row["trial"]), float(row["selected"]), row["run_id"] == run.info.run_id)
            for row in done.to_dict("records")
        ],
        axes=("trial", selection.metric),
        chance=_chance(selection, classes),
    )


def _of_confirmation(runs: Sequence[Run], numbers: Mapping[str, float], classes: int) -> Content:
    table = confirmed_table(runs)
    selection = SELECTIONS[runs[0].data.tags[Tag.SELECT_ON]]
    mine = chosen(table, selection)
    shown = mine[["fold", "seed", "candidate", "exposure", "uar", "uar_stopped", "validation_uar", "run_id"]]
    names = {"uar": TEST_UAR, "uar_stopped": "test/stopped/uar", "validation_uar": "val/uar"}
    times = Counter(mine["candidate"])
    ids = set(mine["run_id"])
    done = table[table["status"] == FINISHED].dropna(subset=["uar"])
    if table["candidate"].nunique() > 1:
        how = f"In each fold the configuration with the best {selection.meaning}, was chosen for the test speakers"
    else:
        how = "The method's one configuration was trained in each fold"
    seen = int((mine["exposure"] == CHOSEN_BY).sum())
    return Content(
        metrics={**_scores([run for run in runs if run.info.run_id in ids]), **numbers},
        chosen={"candidates": ", ".join(f"{name} × {times[name]}" for name in sorted(times))},
        how=f"{how}. The scores of this run are means over these {len(mine)} trainings; test scores are of speakers "
        "that the training has not seen."
        + (f" In {seen} of them a search had chosen by these speakers." if seen else ""),
        table=shown.rename(columns=names),
        text=pd.DataFrame(
            {
                "fold": mine["fold"].astype(str),
                "seed": mine["seed"].astype(str),
                "configuration": mine["candidate"],
                "test UAR": [f"{value:.3f}" for value in mine["uar"].astype(float)],
                "with an early stop": [f"{value:.3f}" for value in mine["uar_stopped"].astype(float)],
            }
        ),
        points=[Point(int(row["fold"]), float(row["uar"]), row["run_id"] in ids) for row in done.to_dict("records")],
        axes=("fold", "test UAR, last epoch"),
        chance=1 / classes if classes else None,
    )


def _scores(runs: Sequence[Run]) -> dict[str, float]:
    """Return the means of the scores that all of these runs have."""
    names = set.intersection(*(set(run.data.metrics) for run in runs))
    return {
        name: sum(run.data.metrics[name] for run in runs) / len(runs)
        for name in sorted(names)
        if not name.startswith(SYSTEM) and not name.endswith(NO_SCORES)
    }


def _chance(selection: Selection, classes: int) -> float | None:
    return 1 / classes if classes and selection.metric.endswith("uar") else None
