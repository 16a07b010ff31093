"""Test scores of the confirmed configurations, and the difference from their scores in the search."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from analysis.common.methods import left_out_confirmations
from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.common.text import (
    at_epoch,
    configuration_in_words,
    counted,
    in_percent,
    listing,
    points,
    with_deviation,
    without_empty_columns,
)
from ser.metrics.absent_classes import TEST
from study.schema import CHOSEN_BY, DEFAULT, FINISHED, TRAINED_BY, UNSEEN, Tag, absent_of, in_words
from study.tracking.best_table import short_parameters

TITLE = "Best runs, confirmed"
SCORES = ("uar", "uar_stopped", "stopped_epoch", "uar_best_epoch", "best_epoch", "validation_uar")
EXPOSURES = {UNSEEN: "unseen", TRAINED_BY: "trained on", CHOSEN_BY: "chosen by"}
"""Exposure → word in tables: what the search did with the test speakers."""


def confirmed_section(records: Records) -> tuple[Section, pd.DataFrame]:
    """Return the test scores of the confirmed configurations of each level and space.

    Args:
        records: Records of both stages; without a confirmation the section says only what is missing.

    Returns:
        The section, and its scores from ``confirmed_scores``; empty if there are none.
    """
    if records.confirmed.empty:
        missing = f"Nothing is confirmed yet, so there is no test score. To confirm: {records.confirm_command()}"
        return Section("best_runs", TITLE, missing=(missing,)), pd.DataFrame()
    finished = records.confirmed[records.confirmed["status"] == FINISHED]
    scores = confirmed_scores(finished, search_scores(records, set(finished["source"])))
    if scores.empty:
        return Section("best_runs", TITLE, missing=tuple(left_out_confirmations(records))), scores
    table = NamedTable(
        "best_runs_confirmed",
        "Confirmed configurations, trained with new seeds and noise draws: UAR in % against true labels"
        f"{_over(records)}, mean over trainings",
        scores.drop(columns="parameters"),
        confirmed_text(scores),
        keys=3 if scores["study"].nunique() > 1 else 2,
    )
    section = Section(
        "best_runs",
        TITLE,
        sentences=tuple(change_sentences(scores)),
        tables=(table,),
        notes=tuple(notes(records, scores)),
        missing=tuple(missing_parts(records, scores)),
    )
    return section, scores


def _over(records: Records) -> str:
    """Return over how many classes test UAR is where a fold lacks some; otherwise nothing."""
    lacking = [absent_of({Tag.ABSENT: text}).get(TEST, []) for text in records.confirmed["absent"] if text]
    most = max(map(len, lacking), default=0)
    return f" (in some folds over {len(records.classes) - most} of {len(records.classes)} classes)" if most else ""


def search_scores(records: Records, sources: set[str]) -> dict[str, float]:
    """Return the validation UAR of the search's runs from which confirmed configurations come.

    Args:
        records: Records of both stages.
        sources: Run ids.

    Returns:
        Run id → UAR, without deleted runs and runs without true labels.
    """
    known = {} if records.search is None else dict(records.search.table.set_index("run_id")["uar"])
    for source in sources - set(known) - {""}:  # runs of a search on another fold
        try:
            known[source] = records.run(source).data.metrics.get("val/uar")
        except MlflowException:
            continue
    return {str(run): float(value) for run, value in known.items() if run in sources and pd.notna(value)}


def confirmed_scores(finished: pd.DataFrame, searched: Mapping[str, float]) -> pd.DataFrame:
    """Compute the scores of each confirmed configuration.

    Args:
        finished: Finished trials of ``Records.confirmed``.
        searched: Run id → validation UAR in the search.

    Returns:
        One row per (confirmation, noise level, space, candidate, exposure): ``study``, ``noise``, ``rate``, ``space``,
        ``candidate``, ``exposure``; ``search_uar``, validation UAR of the search's run; means over trainings:
        ``validation_uar``; test UAR at the last epoch (``uar``, with its standard deviation over trainings
        ``deviation``), at the honest early stop (``uar_stopped``, ``stopped_epoch``) and at the epoch of the best true
        validation score (``uar_best_epoch``, ``best_epoch``); ``drop``, the difference (``search_uar`` − ``uar``);
        ``folds``, ``seeds`` and ``trainings``, their numbers; ``parameters``, the searched ones, and a column for each.
        NaN where a score is unknown.
    """
    rows = []
    keys = ["study", "noise", "space", "candidate", "exposure"]
    for values, trials in finished.groupby(keys, sort=False):
        means = trials[list(SCORES)].astype(float).mean()
        promised = pd.Series([searched.get(source) for source in set(trials["source"])], dtype=float).mean()
        parameters = [
            {name: values[name] for name in names if name in values}
            for names, values in zip(trials["searched"], trials["parameters"], strict=True)
        ]
        same = all(one == parameters[0] for one in parameters)
        rows.append(
            {
                **dict(zip(keys, values, strict=True)), "rate": trials["rate"].iloc[0], "search_uar": promised,
                **means, "deviation": trials["uar"].astype(float).std(ddof=1), "drop": promised - means["uar"],
                "folds": trials["fold"].nunique(), "seeds": trials["seed"].nunique(), "trainings": len(trials),
                "parameters": parameters[0] if same else {}, **(parameters[0] if same else {}),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def confirmed_text(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the confirmed scores as displayed, without columns that have no value.

    Args:
        scores: From ``confirmed_scores``.
    """
    rows = scores.to_dict("records")
    text = pd.DataFrame(
        {
            "confirmation": [row["study"] for row in rows],
            "noise": [row["noise"] for row in rows],
            "method": [in_words(row["space"]) for row in rows],
            "configuration": [configuration_in_words(row["candidate"]) for row in rows],
            "test UAR": [with_deviation(100 * row["uar"], 100 * row["deviation"], 1) for row in rows],
            "UAR in search": [in_percent(row["search_uar"]) for row in rows],
            "change": [points(-row["drop"]) for row in rows],
            "early stop (epoch)": [at_epoch(row["uar_stopped"], row["stopped_epoch"]) for row in rows],
            "oracle (epoch)": [at_epoch(row["uar_best_epoch"], row["best_epoch"]) for row in rows],
            "test speakers": [EXPOSURES[row["exposure"]] for row in rows],
            "trainings": [str(row["trainings"]) for row in rows],
        }
    )
    if scores["study"].nunique() == 1:
        text = text.drop(columns="confirmation")
    if (scores["exposure"] == UNSEEN).all():
        text = text.drop(columns="test speakers")
    return without_empty_columns(text)


def parameters_table(best: pd.DataFrame | None, scores: pd.DataFrame) -> NamedTable | None:
    """Return the searched parameters of the best trials and of the confirmed configurations, each in one row.

    Args:
        best: From ``study.tracking.searches.best_runs``; None without a search.
        scores: From ``confirmed_scores``; empty without a confirmation.

    Returns:
        The table; None if there is no configuration.
    """
    rows = (
        [] if best is None else best[best["run_id"].notna()].rename(columns={"trial": "candidate"}).to_dict("records")
    )
    rows = [*rows, *scores.to_dict("records")]
    if not rows:
        return None
    data = pd.DataFrame(
        {
            **{name: [row[name] for row in rows] for name in ("noise", "space", "candidate")},
            "parameters": [short_parameters(row["parameters"]) or "differ by fold" for row in rows],
        }
    ).drop_duplicates()
    text = pd.DataFrame(
        {
            "method": data["space"].map(in_words),
            "parameters": data["parameters"],
            "configuration": data["candidate"].map(configuration_in_words),
            "noise": data["noise"],
        }
    )
    levels = text.groupby(["method", "parameters", "configuration"], sort=False)["noise"].agg(listing).reset_index()
    names = levels.groupby(["method", "parameters", "noise"], sort=False)["configuration"].agg(" = ".join).reset_index()
    place = {method: number for number, method in enumerate(dict.fromkeys(text["method"]))}
    shown = names.sort_values("method", key=lambda column: column.map(place), kind="stable")
    shown = shown[["method", "noise", "configuration", "parameters"]]
    return NamedTable("best_runs_parameters", "Parameters of these configurations", data, shown)


def change_sentences(scores: pd.DataFrame) -> list[str]:
    """Return a sentence on the change from the search's validation score to the test score at each noise level.

    Args:
        scores: From ``confirmed_scores``.
    """
    known = scores[scores["exposure"] != CHOSEN_BY].dropna(subset=["drop"])
    changes = []
    for noise, rows in known.groupby("noise", sort=False):
        change = -np.average(rows["drop"], weights=rows["trainings"])
        configurations = counted(len(rows[["study", "space", "candidate"]].drop_duplicates()), "configuration")
        changes.append(f"{points(change)} points at {noise} ({configurations})")
    if not changes:
        return []
    return [
        "From validation UAR in the search to test UAR in new trainings, the same configurations change on average by "
        f"{listing(changes)}."
    ]


def notes(records: Records, scores: pd.DataFrame) -> list[str]:
    """Return remarks on the interpretation of the confirmed scores.

    Args:
        records: Records of both stages.
        scores: From ``confirmed_scores``.
    """
    lines = [
        "test UAR: at the last epoch; ±: its standard deviation over trainings, which have other seeds, noise draws "
        "and test speakers. early stop: at the epoch with the best UAR against noisy validation labels, which needs no "
        "true label. oracle: at the epoch with the best UAR against true validation labels."
    ]
    if scores["drop"].notna().any():
        lines.append(
            "UAR in search: of the same configuration, on the validation subset. change: from this to test UAR, in "
            "points."
        )
    if (scores["exposure"] != UNSEEN).any():
        lines.append(
            "test speakers: whether the search has trained on them, or chosen the configuration by them. The latter is "
            "no clean test, and in no comparison."
        )
    command = records.own_command("analysis/significance.py")
    lines.append(f"Whether methods differ is another question; to answer it: {command}")
    return lines


def missing_parts(records: Records, scores: pd.DataFrame) -> list[str]:
    """Return sentences on what cannot be shown, and how to get it.

    Args:
        records: Records of both stages.
        scores: From ``confirmed_scores``.
    """
    lines = left_out_confirmations(records)
    chosen = scores[scores["candidate"] != DEFAULT]
    if lost := sorted({f"{in_words(row['space'])} at {row['noise']}" for row in chosen.to_dict("records")
                       if pd.isna(row["search_uar"])}):  # fmt: skip
        lines.append(f"No score of the search, because its run was deleted or has no true labels: {listing(lost)}.")
    if without := int(scores["uar_stopped"].isna().sum()):
        lines.append(
            f"No early stop is on record for {counted(without, 'configuration')} that an older version trained."
        )
    return lines
