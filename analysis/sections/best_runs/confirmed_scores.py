"""Test scores of the confirmed configurations, and the difference from their scores in the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from analysis.common.methods import left_out_confirmations
from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.common.text import MISSING, at_epoch, number, points, signed, with_deviation
from analysis.sections.significance.comparisons import HELD_OUT, SEED, SEEN, Tested, pooled, read_tested
from analysis.sections.significance.statistics import RESAMPLES, Score, score
from ser.utils.command_names import command_line
from study.schema import DEFAULT
from study.tracking.best_table import short_parameters

TITLE = "Best runs, confirmed"
UNKNOWN = Score(float("nan"), float("nan"), float("nan"))


def confirmed_section(records: Records) -> Section:
    """Return the test scores of the best configuration of each level and space, and of the published defaults.

    Args:
        records: Records of both stages; without a confirmation the section says only what is missing.

    Raises:
        UserError: If a per-utterance table cannot be read or does not match the others.
    """
    if records.confirmed.empty:
        missing = f"Nothing was confirmed, so there is no test score. To confirm: {records.confirm_command()}"
        return Section("best_runs", TITLE, missing=(missing,))
    tested = read_tested(records, defaults=True)
    scores = confirmed_scores(tested, len(records.classes), search_scores(records, set(tested.trials["source"])))
    tables = [
        NamedTable(
            "best_runs_confirmed" if folds == HELD_OUT else "best_runs_seen",
            f"Confirmed on new seeds: test UAR against true labels, last epoch; folds {folds}",
            rows.drop(columns="parameters").reset_index(drop=True),
            confirmed_text(rows),
        )
        for folds in (HELD_OUT, SEEN)
        if len(rows := scores[scores["folds"] == folds])
    ]
    listed = parameters_text(scores)
    tables.append(NamedTable("best_runs_parameters", "Parameters of the confirmed configurations", listed, listed))
    return Section(
        "best_runs",
        TITLE,
        sentences=tuple(difference_sentences(scores)),
        tables=tuple(tables),
        notes=tuple(notes(scores)),
        missing=tuple(missing_parts(records, tested, scores)),
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


def confirmed_scores(tested: Tested, classes: int, searched: Mapping[str, float]) -> pd.DataFrame:
    """Compute the scores of each confirmed configuration.

    Args:
        tested: From ``analysis.sections.significance.comparisons.read_tested``, defaults included.
        classes: Number of classes.
        searched: Run id → validation UAR in the search.

    Returns:
        One row per (folds, noise level, space, candidate): ``folds``, ``noise``, ``rate``, ``space``, ``candidate``;
        ``search_uar``, validation UAR of the search's run; ``validation_uar``, the same on the new seeds; ``uar``,
        ``sd_seeds``, ``low``, ``high``: test UAR, pooled over folds, its mean and standard deviation over seeds, and
        its 95 % interval over speakers (NaN without per-utterance tables; ``uar`` is then the mean over trials);
        ``drop``, the difference (``search_uar`` − ``uar``); ``uar_best_epoch`` and ``best_epoch``, means over trials;
        ``speakers``, ``seeds``, ``fold_names``, ``trials``; ``parameters``, the searched ones, and a column for each.
        NaN where a score is unknown.
    """
    rows = []
    for (folds, noise, space, candidate), trials in tested.trials.groupby(
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
                "folds": folds, "noise": noise, "rate": trials["rate"].iloc[0], "space": space, "candidate": candidate,
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
    """Return the confirmed scores as displayed."""
    rows = scores.to_dict("records")
    return pd.DataFrame(
        {
            "noise": [row["noise"] for row in rows],
            "space": [row["space"] for row in rows],
            "candidate": [row["candidate"] for row in rows],
            "search val": [number(row["search_uar"]) for row in rows],
            "val": [number(row["validation_uar"]) for row in rows],
            "test UAR": [with_deviation(row["uar"], row["sd_seeds"]) for row in rows],
            "95 % interval": [
                MISSING if pd.isna(row["low"]) else f"{number(row['low'])}…{number(row['high'])}" for row in rows
            ],
            "drop": [signed(row["drop"]) for row in rows],
            "best epoch": [at_epoch(row["uar_best_epoch"], row["best_epoch"]) for row in rows],
            "trials": [str(row["trials"]) for row in rows],
        }
    )


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
    folds = HELD_OUT if (scores["folds"] == HELD_OUT).any() else SEEN
    known = scores[scores["folds"] == folds].dropna(subset=["drop"])
    sentences = []
    for noise, rows in known.groupby("noise", sort=False):
        each = "; ".join(
            f"{row['space']} {row['candidate']} {row['search_uar']:.3f}, then {row['uar']:.3f}"
            for row in rows.to_dict("records")
        )
        sentences.append(
            f"{noise}, validation UAR in the search, then test UAR on new seeds: {each}. Mean drop "
            f"{points(rows['drop'].mean())} points."
        )
    return sentences


def notes(scores: pd.DataFrame) -> list[str]:
    """Return remarks on the interpretation of the confirmed scores."""
    lines = [
        "search val: validation UAR of the configuration's trial in the search; val: the same on new seeds and noise "
        "draws. On the held-out fold the difference between these two is the optimism of the search's choice, and the "
        "difference between val and test comes from other speakers. drop: search val minus test UAR. All against true "
        "labels, at the last epoch. best epoch: test UAR at the epoch of the best true validation score, an oracle.",
        f"Test UAR is pooled over folds; ±: its standard deviation over seeds; interval: BCa bootstrap over speakers, "
        f"{RESAMPLES:,} resamples, too short with few speakers. Overlapping intervals do not show whether methods "
        f"differ; the paired tests of {command_line('analysis/significance.py')} do.",
    ]
    if (scores["folds"] == SEEN).any():
        lines.append("Folds seen by search: the search has trained on their test rows, or chosen by them.")
    if counts := sorted({int(count) for count in scores["speakers"] if count}):
        lines.append(f"Speakers per interval: {_listed(counts)}.")
    return lines


def missing_parts(records: Records, tested: Tested, scores: pd.DataFrame) -> list[str]:
    """Return sentences on what cannot be shown, and how to get it."""
    lines = left_out_confirmations(records)
    if without := len(tested.untabled) + len(tested.untrue):
        lines.append(f"{without} trials have no test predictions with true labels and are in no interval.")
    chosen = scores[scores["candidate"] != DEFAULT]
    if lost := sorted({f"{row['space']} at {row['noise']}" for row in chosen.to_dict("records")
                       if pd.isna(row["search_uar"])}):  # fmt: skip
        lines.append(f"No score of the search, because its run was deleted or has no true labels: {', '.join(lost)}.")
    if (scores["seeds"] == 1).any():
        lines.append(f"Some scores are of one seed. To add seeds: {records.confirm_command('--seeds', '5')}")
    if not (scores["folds"] == HELD_OUT).any():
        command = records.confirm_command("--folds", "held-out")
        lines.append(f"No fold that the search held out was confirmed. To confirm it: {command}")
    return lines


def _seed_means(trials: pd.DataFrame) -> NDArray[np.float64]:
    scores = trials.assign(uar=trials["uar"].astype(float))
    return scores.groupby("seed")["uar"].mean().to_numpy(dtype=np.float64)


def _listed(values: Sequence[int] | pd.Series[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))
