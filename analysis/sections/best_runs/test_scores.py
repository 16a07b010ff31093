"""What became of the best configurations on fresh seeds and test rows, and how far they fell below the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.sections.significance.comparisons import (
    HELD_OUT,
    SEED,
    SEEN,
    Tested,
    confirm_command,
    pooled,
    read_tested,
)
from analysis.sections.significance.statistics import RESAMPLES, Score, score
from study.schema import DEFAULT
from study.tracking.searches import short_parameters

TITLE = "Best runs, confirmed"
UNKNOWN = Score(float("nan"), float("nan"), float("nan"))


def confirmed_section(records: Records) -> Section:
    """The confirmed test scores of each level's and method's best configuration, and of its published default.

    Args:
        records: Of both stages; without the second there is nothing but what is missing.

    Raises:
        UserError: A table of utterances cannot be read, or does not fit the others.
    """
    if records.confirmed.empty:
        missing = f"Nothing was confirmed, so there is no test score. To confirm: {confirm_command(records)}"
        return Section("best_runs", TITLE, missing=(missing,))
    tested = read_tested(records, defaults=True)
    scores = confirmed_scores(tested, len(records.classes), search_scores(records, set(tested.trials["source"])))
    tables = [
        NamedTable(
            "best_runs_confirmed" if part == HELD_OUT else "best_runs_seen",
            f"Confirmed on fresh seeds: test UAR against true labels, last epoch; folds {part}",
            rows.drop(columns="parameters").reset_index(drop=True),
            confirmed_text(rows),
        )
        for part in (HELD_OUT, SEEN)
        if len(rows := scores[scores["folds"] == part])
    ]
    listed = parameters_text(scores)
    tables.append(NamedTable("best_runs_parameters", "Parameters of the confirmed configurations", listed, listed))
    return Section(
        "best_runs",
        TITLE,
        sentences=tuple(drop_sentences(scores)),
        tables=tuple(tables),
        notes=tuple(notes(scores)),
        missing=tuple(missing_parts(records, tested, scores)),
    )


def search_scores(records: Records, sources: set[str]) -> dict[str, float]:
    """Validation UAR of the search's runs that confirmed configurations come from; those that are gone are left out."""
    known = {} if records.search is None else dict(records.search.table.set_index("run_id")["uar"])
    for source in sources - set(known) - {""}:  # of a search on another fold
        try:
            known[source] = records.client.get_run(source).data.metrics.get("val/uar")
        except MlflowException:
            continue
    return {str(run): float(value) for run, value in known.items() if run in sources and pd.notna(value)}


def confirmed_scores(tested: Tested, classes: int, searched: Mapping[str, float]) -> pd.DataFrame:
    """One row for each (folds, noise level, space, candidate).

    Args:
        tested: From ``analysis.sections.significance.comparisons.read_tested``, defaults included.
        classes: How many classes there are.
        searched: Run id → validation UAR in the search.

    Returns:
        ``folds``, ``noise``, ``rate``, ``space``, ``candidate``; ``search_uar``, of the search's run, validation;
        ``validation_uar``, the same part on the fresh seeds; ``uar``, ``sd_seeds``, ``low``, ``high``: the test UAR,
        pooled over folds, its mean and deviation over seeds, and its 95 % interval over speakers (NaN without tables
        of utterances, when ``uar`` is the mean over trials); ``drop``, ``search_uar`` less ``uar``;
        ``uar_best_epoch`` and ``best_epoch``, means over trials; ``speakers``, ``seeds``, ``fold_names``, ``trials``;
        ``parameters``, the searched ones, and a column for each. NaN where a score is not known.
    """
    rows = []
    for (part, noise, space, candidate), trials in tested.trials.groupby(
        ["folds", "noise", "space", "candidate"], sort=False
    ):
        pool = pooled(tested, trials, classes)
        by_seed = _seed_means(trials) if pool is None else pool.uar_by_seed
        found = UNKNOWN if pool is None else score(pool.mean_correct, pool.total, SEED)
        promised = [searched[source] for source in set(trials["source"]) if source in searched]
        search_uar = float(np.mean(promised)) if promised else float("nan")
        parameters = [
            {name: values[name] for name in names if name in values}
            for names, values in zip(trials["searched"], trials["parameters"], strict=True)
        ]
        same = all(one == parameters[0] for one in parameters)
        rows.append(
            {
                "folds": part, "noise": noise, "rate": trials["rate"].iloc[0], "space": space, "candidate": candidate,
                "search_uar": search_uar, "validation_uar": trials["validation_uar"].astype(float).mean(),
                "uar": by_seed.mean(), "sd_seeds": by_seed.std(ddof=1) if len(by_seed) > 1 else float("nan"),
                "low": found.low, "high": found.high, "drop": search_uar - by_seed.mean(),
                "uar_best_epoch": trials["uar_best_epoch"].astype(float).mean(),
                "best_epoch": trials["best_epoch"].astype(float).mean(),
                "speakers": 0 if pool is None else len(pool.speakers), "seeds": len(by_seed),
                "fold_names": _listed(trials["fold"] if pool is None else pool.folds), "trials": len(trials),
                "parameters": parameters[0] if same else {}, **(parameters[0] if same else {}),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def confirmed_text(scores: pd.DataFrame) -> pd.DataFrame:
    """The confirmed scores as text."""
    rows = scores.to_dict("records")
    return pd.DataFrame(
        {
            "noise": [row["noise"] for row in rows],
            "space": [row["space"] for row in rows],
            "candidate": [row["candidate"] for row in rows],
            "search val": [_number(row["search_uar"]) for row in rows],
            "val": [_number(row["validation_uar"]) for row in rows],
            "test UAR": [
                _number(row["uar"]) + (f" ± {row['sd_seeds']:.3f}" if pd.notna(row["sd_seeds"]) else "") for row in rows
            ],
            "95 % interval": [f"{row['low']:.3f}…{row['high']:.3f}" if pd.notna(row["low"]) else "–" for row in rows],
            "drop": [_signed(row["drop"], 3) for row in rows],
            "best epoch": [
                f"{row['uar_best_epoch']:.3f} @ {row['best_epoch']:.0f}" if pd.notna(row["uar_best_epoch"]) else "–"
                for row in rows
            ],
            "trials": [str(row["trials"]) for row in rows],
        }
    )


def parameters_text(scores: pd.DataFrame) -> pd.DataFrame:
    """The searched parameters of each configuration as text."""
    text = scores[["noise", "space", "candidate"]].copy()
    text["parameters"] = [short_parameters(parameters) or "differ by fold" for parameters in scores["parameters"]]
    return text.drop_duplicates()


def drop_sentences(scores: pd.DataFrame) -> list[str]:
    """How far test scores on fresh seeds fall below what the search had promised, in a sentence for each level.

    Args:
        scores: From ``confirmed_scores``.
    """
    part = HELD_OUT if (scores["folds"] == HELD_OUT).any() else SEEN
    known = scores[scores["folds"] == part].dropna(subset=["drop"])
    sentences = []
    for noise, rows in known.groupby("noise", sort=False):
        each = "; ".join(
            f"{row['space']} {row['candidate']} {row['search_uar']:.3f}, then {row['uar']:.3f}"
            for row in rows.to_dict("records")
        )
        sentences.append(
            f"{noise}, validation UAR in the search, then test UAR on fresh seeds: {each}. Mean drop "
            f"{_signed(100 * rows['drop'].mean(), 1)} points."
        )
    return sentences


def notes(scores: pd.DataFrame) -> list[str]:
    """What a reader of the confirmed scores must know."""
    lines = [
        "search val: validation UAR of the configuration's trial in the search; val: the same on fresh seeds and noise "
        "draws; on the held-out fold the difference between these two is the search's luck, that from val to test is "
        "other speakers. drop: "
        "search val less test UAR. All against true labels, at the last epoch. best epoch: test UAR at the epoch of "
        "the best true validation score, an oracle.",
        f"Test UAR is pooled over folds; ± its deviation over seeds; interval: BCa bootstrap over speakers, "
        f"{RESAMPLES:,} resamplings, too short with few speakers. Whether methods differ is told by python "
        "analysis/significance.py, not by whether these intervals overlap.",
    ]
    if (scores["folds"] == SEEN).any():
        lines.append("Folds seen by search: the search has trained on, or chosen by, their test rows.")
    if counts := sorted({int(count) for count in scores["speakers"] if count}):
        lines.append(f"Speakers behind an interval: {_listed(counts)}.")
    return lines


def missing_parts(records: Records, tested: Tested, scores: pd.DataFrame) -> list[str]:
    """What cannot be told, and how to get it."""
    lines = []
    command = confirm_command(records)
    if tested.unfinished:
        lines.append(f"{tested.unfinished} confirming trials have not finished and were left out. To go on: {command}")
    if tested.repeated:
        lines.append(f"{tested.repeated} trials were left out, for a newer confirmation has taken their place.")
    if without := len(tested.untabled) + len(tested.untrue):
        lines.append(f"{without} trials have no test predictions with true labels, and count in no interval.")
    chosen = scores[scores["candidate"] != DEFAULT]
    if lost := sorted({f"{row['space']} at {row['noise']}" for row in chosen.to_dict("records")
                       if pd.isna(row["search_uar"])}):  # fmt: skip
        lines.append(f"No score of the search, for its runs are gone or have no true labels: {', '.join(lost)}.")
    if (scores["seeds"] == 1).any():
        lines.append(f"Some scores are of one seed. To add seeds: {confirm_command(records, '--seeds', '5')}")
    if not (scores["folds"] == HELD_OUT).any():
        told = confirm_command(records, "--folds", "held-out")
        lines.append(f"No fold that the search held out was confirmed. To get it: {told}")
    return lines


def _seed_means(trials: pd.DataFrame) -> NDArray[np.float64]:
    scores = trials.assign(uar=trials["uar"].astype(float))
    return scores.groupby("seed")["uar"].mean().to_numpy(dtype=np.float64)


def _listed(values: Sequence[int] | pd.Series[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def _signed(value: float, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:+.{digits}f}".replace("-", "−")


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"
