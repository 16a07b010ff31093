"""Answer in three sentences: which loss to train with, how certain that is, and what it did to the labels.

The comparisons come from ``analysis.sections.significance.comparisons``, the effects on the labels from
``label_effects``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.common.methods import Chosen, choose_methods
from analysis.common.records import Records
from analysis.common.text import between, counted, level_with_rate, listing, number, p_equation, percent, points
from analysis.sections.significance.comparisons import (
    BETTER,
    HELD_OUT,
    IMPOSSIBLE,
    SEEN,
    WORSE,
    Tested,
    compare_all,
    pooled,
    read_tested,
)

EFFECTS = {
    "changed": "train/labels_changed",
    "precision": "train/correction_precision",
    "memorised": "train/memorised",
}
"""Effects on the training labels in the last epoch: column → metric of the records."""


def answer(records: Records, reference: str) -> tuple[str, str, str]:
    """Return the three sentences that the page starts with.

    Args:
        records: Records of the experiment.
        reference: Space that the others are compared with.

    Raises:
        UserError: If a per-utterance table cannot be read or does not match the others.
    """
    tested = read_tested(records)
    scores = mean_test_scores(tested, len(records.classes))
    compared = compare_all(tested, reference, len(records.classes))
    held_out = compared[compared["folds"] == HELD_OUT]
    shown = held_out if len(held_out) else compared
    effects = label_effects(records, choose_methods(records))
    confirmed = not records.confirmed.empty and len(scores) > 0
    return (
        which_loss(shown, scores, reference),
        certainty(shown, records.confirm_command()),
        effect_sentence(effects, reference, confirmed),
    )


def mean_test_scores(tested: Tested, classes: int) -> pd.DataFrame:
    """Compute the test UAR of each confirmed method.

    Args:
        tested: From ``analysis.sections.significance.comparisons.read_tested``.
        classes: Number of classes.

    Returns:
        ``noise``, ``space`` and ``uar``, the mean over seeds on folds that the search has not seen if there are any.
    """
    rows = []
    for (noise, space), trials in tested.trials.groupby(["noise", "space"], sort=False):
        unseen = trials[~trials["seen"].astype(bool)]
        pool = pooled(tested, unseen if len(unseen) else trials, classes)
        if pool is not None:
            rows.append({"noise": noise, "space": space, "uar": float(pool.uar_by_seed.mean())})
    return pd.DataFrame(rows, columns=["noise", "space", "uar"])


def label_effects(records: Records, chosen: Chosen) -> pd.DataFrame:
    """Read the effects of each method on the training labels.

    Args:
        records: Records of the experiment.
        chosen: Methods of the experiment.

    Returns:
        One row per method: ``noise``, ``rate``, ``space``, ``trials``, and means over these trials of the last epoch's
        shares (0 to 1, NaN if not recorded): ``changed`` of all labels, ``precision`` (of the changed labels, those
        changed to the true one) and ``memorised`` (of the wrong labels, those that the network predicts).
    """
    rows = []
    for method in chosen.methods:
        metrics = pd.DataFrame([records.client.get_run(run.run_id).data.metrics for run in method.runs])
        means = metrics.reindex(columns=list(EFFECTS.values())).astype(float).mean()
        known = {"noise": method.noise, "rate": method.rate, "space": method.space, "trials": len(method.runs)}
        rows.append({**known, **{column: means[metric] for column, metric in EFFECTS.items()}})
    return pd.DataFrame(rows, columns=["noise", "rate", "space", "trials", *EFFECTS])


def which_loss(compared: pd.DataFrame, scores: pd.DataFrame, reference: str) -> str:
    """Return a sentence on the loss to train with, as far as the comparisons show.

    Args:
        compared: From ``compare_all``, of the same folds; empty if nothing was compared.
        scores: From ``mean_test_scores``; empty if nothing was confirmed.
        reference: Space that the others were compared with.
    """
    if scores.empty:
        return (
            "The search alone cannot show which loss to train with: its scores are of validation rows, one seed and "
            "the best of several trials, and nothing is confirmed on test rows yet."
        )
    if compared.empty:
        best = scores.sort_values("uar", ascending=False).drop_duplicates("noise")
        listed = ", ".join(f"{row['space']} {number(row['uar'])} at {row['noise']}" for row in best.to_dict("records"))
        return f"Which loss is best is unknown, because no two were tested in the same way; test UAR: {listed}."
    better, worse = (compared[compared["verdict"] == verdict] for verdict in (BETTER, WORSE))
    levels = list(dict.fromkeys(compared["noise"]))
    findings = []
    for _, rows in better.groupby("noise", sort=False):
        first = rows.sort_values("uar", ascending=False).iloc[0]
        others = sorted(set(rows["method"]) - {first["method"]})
        also = f"; {listing(others)} {'are' if len(others) > 1 else 'is'} also better than it" if others else ""
        findings.append(
            f"at {level_with_rate(first['noise'], first['rate'])} train with {first['method']}, whose test UAR is "
            f"{number(first['uar'])} against {number(first['uar_reference'])} with {reference}{also}"
        )
    if without := [level for level in levels if level not in set(better["noise"])]:
        methods = sorted(set(compared.loc[compared["noise"].isin(without), "method"]))
        findings.append(f"at {listing(without)} nothing shows that {listing(methods, 'or')} is better than {reference}")
    for noise, rows in worse.groupby("noise", sort=False):
        shown = sorted(rows["method"])
        findings.append(f"at {noise} {listing(shown)} {'are' if len(shown) > 1 else 'is'} worse than {reference}")
    sentence = "; ".join(findings)
    return f"{sentence[0].upper()}{sentence[1:]}."


def certainty(compared: pd.DataFrame, command: str) -> str:
    """Return a sentence on how certain the answer is, and on differences that could not have been detected.

    Args:
        compared: From ``compare_all``, of the same folds; empty if nothing was compared.
        command: Command that confirms a search.
    """
    if compared.empty:
        return f"How certain that is will be known once several methods are confirmed on test rows: {command}"
    few, many = compared["speakers"].min(), compared["speakers"].max()
    seeds = compared["seeds"].str.count(",").add(1)
    design = (
        f"{counted(len(compared), 'paired comparison')} over {between(few, many)} test speaker"
        f"{'s' if many > 1 else ''} and {between(seeds.min(), seeds.max())} seed{'s' if seeds.max() > 1 else ''}"
    )
    if compared["folds"].iloc[0] == SEEN:
        design += ", on folds that the search has seen, so scores are too good"
    findings = []
    found = compared[compared["verdict"].isin((BETTER, WORSE))]
    for row in found.sort_values("p_holm").head(2).to_dict("records"):
        findings.append(
            f"{row['method']} at {row['noise']} differs by {points(row['difference'])} points{_interval(row)}, "
            f"{p_equation(row['p_holm'])} after correction"
        )
    rest = compared[~compared["verdict"].isin((BETTER, WORSE))]
    if len(rest) and (rest["verdict"] == IMPOSSIBLE).all():
        findings.append(
            f"{'the others' if len(found) else 'these'} could not have shown a difference, however large, because no "
            "p below .05 is possible with so few speakers: this is no evidence that the losses are equally good"
        )
    elif len(rest):
        detectable = rest["smallest_detectable"].replace(float("inf"), float("nan")).max()
        largest = rest.sort_values("difference", key=abs).iloc[-1]
        findings.append(
            f"no evidence of a difference in {len(rest)}, the largest {points(largest['difference'])} points"
            f"{_interval(largest)}"
            + (
                f", where differences below {100 * detectable:.1f} points would probably have been missed"
                if pd.notna(detectable)
                else ""
            )
        )
    return f"{design}: {'; '.join(findings)}."


def effect_sentence(effects: pd.DataFrame, reference: str, confirmed: bool) -> str:
    """Return a sentence on what the losses did to the labels at the noisiest level.

    Args:
        effects: From ``label_effects``; empty if no trial has finished.
        reference: Space that the others are compared with.
        confirmed: Whether the trials are of the confirm stage.
    """
    known = effects.dropna(subset=["changed"])
    if known.empty:
        return "The effects of the losses on the labels are not on record."
    noisiest = known.sort_values("rate", na_position="first", kind="stable")["noise"].iloc[-1]
    level = known[known["noise"] == noisiest]
    others = level[level["space"] != reference]
    row = (others if len(others) else level).sort_values("changed", ascending=False).iloc[0]
    if row["changed"] > 0:
        effect = f"{row['space']} changed {percent(row['changed'], 1)} of the training labels in the last epoch"
        if pd.notna(row["precision"]):
            effect += f", {percent(row['precision'])} of these to the true one"
    elif len(level) > 1:
        effect = "no loss changed a training label"
    else:
        effect = f"{row['space']} changed no training label"
    if pd.notna(row["memorised"]):
        effect += f"; with {row['space']} the network had memorised {percent(row['memorised'])} of the wrong labels"
        rival = level[(level["space"] == reference) & level["memorised"].notna()]
        if len(rival) and row["space"] != reference:
            effect += f", with {reference} {percent(rival['memorised'].iloc[0])}"
    trials = f"mean of {row['trials']} trials" if row["trials"] > 1 else "one trial"
    stage = "" if confirmed else " of the search"
    where = level_with_rate(str(row["noise"]), row["rate"])
    return f"At {where}, {effect} ({trials}{stage}, described and not tested)."


def _interval(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    return f" (95 % interval {points(row['low'])} to {points(row['high'])})" if pd.notna(row["low"]) else ""
