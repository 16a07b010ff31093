"""Test scores of the confirmed configurations, and the difference from their scores in the search."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from mlflow.exceptions import MlflowException

from analysis.common.methods import left_out_confirmations
from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.common.text import at_epoch, counted, number, points, signed, with_deviation
from study.schema import CHOSEN_BY, DEFAULT, FINISHED, TRAINED_BY, UNSEEN
from study.tracking.best_table import short_parameters

TITLE = "Best runs, confirmed"
SCORES = ("uar", "uar_stopped", "stopped_epoch", "uar_best_epoch", "best_epoch", "validation_uar")
EXPOSURES = {UNSEEN: "unseen", TRAINED_BY: "trained on", CHOSEN_BY: "chosen by"}
"""Exposure → word in tables: what the search did with the test speakers."""


def confirmed_section(records: Records) -> Section:
    """Return the test scores of the confirmed configurations of each level and space.

    Args:
        records: Records of both stages; without a confirmation the section says only what is missing.
    """
    if records.confirmed.empty:
        missing = f"Nothing was confirmed, so there is no test score. To confirm: {records.confirm_command()}"
        return Section("best_runs", TITLE, missing=(missing,))
    finished = records.confirmed[records.confirmed["status"] == FINISHED]
    scores = confirmed_scores(finished, search_scores(records, set(finished["source"])))
    if scores.empty:
        return Section("best_runs", TITLE, missing=tuple(left_out_confirmations(records)))
    listed = parameters_text(scores)
    tables = (
        NamedTable(
            "best_runs_confirmed",
            "Confirmed with new seeds and noise draws: test UAR against true labels, mean over trainings",
            scores.drop(columns="parameters"),
            confirmed_text(scores),
        ),
        NamedTable("best_runs_parameters", "Parameters of the confirmed configurations", listed, listed),
    )
    return Section(
        "best_runs",
        TITLE,
        sentences=tuple(difference_sentences(scores)),
        tables=tables,
        notes=tuple(notes(records, scores)),
        missing=tuple(missing_parts(records, scores)),
    )


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
            known[source] = records.client.get_run(source).data.metrics.get("val/uar")
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
    """Return the confirmed scores as displayed.

    Args:
        scores: From ``confirmed_scores``.
    """
    rows = scores.to_dict("records")
    text = pd.DataFrame(
        {
            "confirmation": [row["study"] for row in rows],
            "noise": [row["noise"] for row in rows],
            "space": [row["space"] for row in rows],
            "candidate": [row["candidate"] for row in rows],
            "search val": [number(row["search_uar"]) for row in rows],
            "val": [number(row["validation_uar"]) for row in rows],
            "test UAR": [with_deviation(row["uar"], row["deviation"]) for row in rows],
            "early stop": [at_epoch(row["uar_stopped"], row["stopped_epoch"]) for row in rows],
            "best epoch (oracle)": [at_epoch(row["uar_best_epoch"], row["best_epoch"]) for row in rows],
            "drop": [signed(row["drop"]) for row in rows],
            "speakers": [EXPOSURES[row["exposure"]] for row in rows],
            "trainings": [str(row["trainings"]) for row in rows],
        }
    )
    return text.drop(columns="confirmation") if text["confirmation"].nunique() == 1 else text


def parameters_text(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the searched parameters of each configuration as displayed."""
    text = scores[["noise", "space", "candidate"]].copy()
    text["parameters"] = [short_parameters(parameters) or "differ by fold" for parameters in scores["parameters"]]
    return text.drop_duplicates()


def difference_sentences(scores: pd.DataFrame) -> list[str]:
    """Return one sentence per level on the difference between the search's score and the test score.

    Args:
        scores: From ``confirmed_scores``.
    """
    known = scores[scores["exposure"] != CHOSEN_BY].dropna(subset=["drop"])
    sentences = []
    for noise, rows in known.groupby("noise", sort=False):
        each = "; ".join(
            f"{row['space']} {row['candidate']} {row['search_uar']:.3f}, then {row['uar']:.3f}"
            for row in rows.to_dict("records")
        )
        sentences.append(
            f"{noise}, validation UAR in the search, then test UAR of new trainings: {each}. Mean drop "
            f"{points(rows['drop'].mean())} points."
        )
    return sentences


def notes(records: Records, scores: pd.DataFrame) -> list[str]:
    """Return remarks on the interpretation of the confirmed scores.

    Args:
        records: Records of both stages.
        scores: From ``confirmed_scores``.
    """
    lines = [
        "search val: validation UAR of the configuration's trial in the search; val: the same in new trainings. drop: "
        "search val minus test UAR. All against true labels. test UAR: last epoch; ±: its standard deviation over "
        "trainings, which have other seeds, noise draws and test speakers.",
        "early stop: test UAR at the epoch of the best UAR against noisy validation labels, which needs no true label. "
        "best epoch: test UAR at the epoch of the best true validation score, an oracle.",
        f"Whether methods differ is another question, which this answers: "
        f"{records.own_command('analysis/significance.py')}",
    ]
    if (scores["exposure"] != UNSEEN).any():
        lines.append(
            "speakers: whether the search has trained on the test speakers, or chosen the configuration by them. The "
            "latter is no clean test, and in no comparison."
        )
    return lines


def missing_parts(records: Records, scores: pd.DataFrame) -> list[str]:
    """Return sentences on what cannot be shown, and how to get it.

    Args:
        records: Records of both stages.
        scores: From ``confirmed_scores``.
    """
    lines = left_out_confirmations(records)
    chosen = scores[scores["candidate"] != DEFAULT]
    if lost := sorted({f"{row['space']} at {row['noise']}" for row in chosen.to_dict("records")
                       if pd.isna(row["search_uar"])}):  # fmt: skip
        lines.append(f"No score of the search, because its run was deleted or has no true labels: {', '.join(lost)}.")
    if without := int(scores["uar_stopped"].isna().sum()):
        lines.append(
            f"No early stop is on record for {counted(without, 'configuration')}, because an older version trained "
            "them."
        )
    return lines
