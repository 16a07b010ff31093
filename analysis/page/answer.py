"""The answer in three sentences: which loss, how sure that is, and what it did to the labels.

Words alone: what is compared comes from ``analysis.sections.significance.comparisons``, what was done to the labels from ``read_fates``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.common.methods import Chosen
from analysis.common.records import Records
from analysis.sections.significance.comparisons import BETTER, HELD_OUT, IMPOSSIBLE, SEEN, WORSE
from analysis.sections.significance.section import p_text, points

FATES = {
    "changed": "train/labels_changed",
    "precision": "train/correction_precision",
    "memorised": "train/memorised",
}
"""What became of the training labels in the last epoch: column → metric of the records."""


def read_fates(records: Records, chosen: Chosen) -> pd.DataFrame:
    """What became of the training labels under each method.

    Args:
        records: Of the experiment.
        chosen: Its methods.

    Returns:
        One row for each method: ``noise``, ``rate``, ``space``, ``trials``, and means over these trials of the last
        epoch's shares (0 to 1, NaN where not recorded): ``changed`` of all labels, ``precision`` (of the changed ones
        those changed to the true label) and ``memorised`` (of the wrong ones those that the network predicts).
    """
    rows = []
    for method in chosen.methods:
        metrics = pd.DataFrame([records.client.get_run(run.run_id).data.metrics for run in method.runs])
        means = metrics.reindex(columns=list(FATES.values())).astype(float).mean()
        known = {"noise": method.noise, "rate": method.rate, "space": method.space, "trials": len(method.runs)}
        rows.append({**known, **{column: means[metric] for column, metric in FATES.items()}})
    return pd.DataFrame(rows, columns=["noise", "rate", "space", "trials", *FATES])


def which_loss(compared: pd.DataFrame, scores: pd.DataFrame, reference: str) -> str:
    """Which loss to train with, as far as the comparisons tell.

    Args:
        compared: From ``analysis.sections.significance.comparisons.compare_all``, of the same folds; empty where nothing was compared.
        scores: ``noise``, ``space`` and ``uar``, the mean test UAR of each confirmed method; empty without any.
        reference: The space that the others were compared with.
    """
    if scores.empty:
        return (
            "The search alone cannot tell which loss to train with: its scores are of validation rows, one seed and "
            "the luckiest of several trials, and nothing is confirmed on test rows yet."
        )
    if compared.empty:
        best = scores.sort_values("uar", ascending=False).drop_duplicates("noise")
        listed = ", ".join(f"{row['space']} {row['uar']:.3f} at {row['noise']}" for row in best.to_dict("records"))
        return f"Which loss is best cannot be told, for no two were tested alike; test UAR: {listed}."
    better, worse = (compared[compared["verdict"] == verdict] for verdict in (BETTER, WORSE))
    levels = list(dict.fromkeys(compared["noise"]))
    parts = []
    for _, rows in better.groupby("noise", sort=False):
        first = rows.sort_values("uar", ascending=False).iloc[0]
        others = sorted(set(rows["method"]) - {first["method"]})
        also = f"; {listing(others)} too {'are' if len(others) > 1 else 'is'} better than it" if others else ""
        parts.append(
            f"at {_level(first)} train with {first['method']}, whose test UAR is {first['uar']:.3f} against "
            f"{first['uar_reference']:.3f} with {reference}{also}"
        )
    if silent := [level for level in levels if level not in set(better["noise"])]:
        methods = sorted(set(compared.loc[compared["noise"].isin(silent), "method"]))
        parts.append(f"at {listing(silent)} nothing shows that {listing(methods, 'or')} is better than {reference}")
    for noise, rows in worse.groupby("noise", sort=False):
        shown = sorted(rows["method"])
        parts.append(f"at {noise} {listing(shown)} {'are' if len(shown) > 1 else 'is'} worse than {reference}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def how_sure(compared: pd.DataFrame, command: str) -> str:
    """How sure that is, and what could not have been seen.

    Args:
        compared: From ``analysis.sections.significance.comparisons.compare_all``, of the same folds; empty where nothing was compared.
        command: What confirms a search, for who has not done so.
    """
    if compared.empty:
        return f"How sure one can be will be known once several methods are confirmed on test rows: {command}"
    count = len(compared)
    few, many = compared["speakers"].min(), compared["speakers"].max()
    seeds = compared["seeds"].str.count(",").add(1)
    design = (
        f"{count} paired comparison{'s' if count > 1 else ''} over {_range(few, many)} test speaker"
        f"{'s' if many > 1 else ''} and {_range(seeds.min(), seeds.max())} seed{'s' if seeds.max() > 1 else ''}"
    )
    if compared["folds"].iloc[0] == SEEN:
        design += ", on folds that the search has seen, so that scores are too good"
    told = []
    found = compared[compared["verdict"].isin((BETTER, WORSE))]
    for row in found.sort_values("p_holm").head(2).to_dict("records"):
        told.append(
            f"{row['method']} at {row['noise']} differs by {points(row['difference'])} points{_interval(row)}, "
            f"{p_text(row['p_holm'])} after correction"
        )
    rest = compared[~compared["verdict"].isin((BETTER, WORSE))]
    if len(rest) and (rest["verdict"] == IMPOSSIBLE).all():
        told.append(
            f"{'the others' if len(found) else 'these'} could not have shown a difference, however large, for so few "
            "speakers allow no small p: this is no evidence that the losses are alike"
        )
    elif len(rest):
        detectable = rest["smallest_detectable"].replace(float("inf"), float("nan")).max()
        largest = rest.sort_values("difference", key=abs).iloc[-1]
        told.append(
            f"no evidence of a difference in {len(rest)}, the largest {points(largest['difference'])} points"
            f"{_interval(largest)}"
            + (
                f", where differences below {100 * detectable:.1f} points would probably have been missed"
                if pd.notna(detectable)
                else ""
            )
        )
    return f"{design}: {'; '.join(told)}."


def label_fate(fates: pd.DataFrame, reference: str, confirmed: bool) -> str:
    """What the losses did to the labels, at the noisiest level.

    Args:
        fates: From ``read_fates``; empty without a finished trial.
        reference: The space that the others are compared with.
        confirmed: Whether the trials are of the confirm stage.
    """
    known = fates.dropna(subset=["changed"])
    if known.empty:
        return "What the losses did to the labels is not on record."
    noisiest = known.sort_values("rate", na_position="first", kind="stable")["noise"].iloc[-1]
    level = known[known["noise"] == noisiest]
    others = level[level["space"] != reference]
    row = (others if len(others) else level).sort_values("changed", ascending=False).iloc[0]
    if row["changed"] > 0:
        told = f"{row['space']} ended by changing {row['changed']:.1%} of the training labels"
        if pd.notna(row["precision"]):
            told += f", {row['precision']:.0%} of these to the true one"
    elif len(level) > 1:
        told = "no loss changed a training label"
    else:
        told = f"{row['space']} changed no training label"
    if pd.notna(row["memorised"]):
        told += f"; with {row['space']} the network had learnt {row['memorised']:.0%} of the wrong labels by heart"
        rival = level[(level["space"] == reference) & level["memorised"].notna()]
        if len(rival) and row["space"] != reference:
            told += f", with {reference} {rival['memorised'].iloc[0]:.0%}"
    trials = f"mean of {row['trials']} trials" if row["trials"] > 1 else "one trial"
    stage = "" if confirmed else " of the search"
    return f"At {_level(row)}, {told} ({trials}{stage}, described and not tested)."


def opening(
    records: Records, compared: pd.DataFrame, scores: pd.DataFrame, fates: pd.DataFrame, reference: str, command: str
) -> tuple[str, str, str]:
    """The three sentences.

    Args:
        records: Of the experiment.
        compared: From ``analysis.sections.significance.comparisons.compare_all``, both kinds of folds; the held-out ones count where there
            are any.
        scores: As for ``which_loss``.
        fates: From ``read_fates``.
        reference: The space that the others were compared with.
        command: What confirms a search.
    """
    held = compared[compared["folds"] == HELD_OUT]
    head = held if len(held) else compared
    confirmed = not records.confirmed.empty and len(scores) > 0
    return which_loss(head, scores, reference), how_sure(head, command), label_fate(fates, reference, confirmed)


def listing(names: Sequence[str], word: str = "and") -> str:
    """Names as in a sentence: ``a, b and c``."""
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _level(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    rate = row["rate"]
    return str(row["noise"]) if pd.isna(rate) else f"{row['noise']} ({rate:.1%} of the labels wrong)"


def _interval(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    return f" (95 % interval {points(row['low'])} to {points(row['high'])})" if pd.notna(row["low"]) else ""


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
