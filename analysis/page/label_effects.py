"""Effects of the losses on the training labels: what each changed, and what its network memorised."""

from __future__ import annotations

import pandas as pd

from analysis.common.methods import Chosen
from analysis.common.records import Records
from analysis.common.text import level_with_rate, percent
from study.schema import in_words

EFFECTS = {
    "changed": "train/labels_changed",
    "precision": "train/correction_precision",
    "memorised": "train/memorised",
}
"""Effects on the training labels in the last epoch: column → metric of the records."""


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
    wanted = {run.run_id for method in chosen.methods for run in method.runs}
    recorded = {run.info.run_id: run.data.metrics for run in records.runs if run.info.run_id in wanted}
    for method in chosen.methods:
        metrics = pd.DataFrame([recorded.get(run.run_id, {}) for run in method.runs])
        means = metrics.reindex(columns=list(EFFECTS.values())).astype(float).mean()
        known = {"noise": method.noise, "rate": method.rate, "space": method.space, "trials": len(method.runs)}
        rows.append({**known, **{column: means[metric] for column, metric in EFFECTS.items()}})
    return pd.DataFrame(rows, columns=["noise", "rate", "space", "trials", *EFFECTS])


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
    name = in_words(row["space"])
    if row["changed"] > 0:
        effect = f"{name} changed {percent(row['changed'], 1)} of the training labels in the last epoch"
        if pd.notna(row["precision"]):
            effect += f", {percent(row['precision'])} of these to the true one"
    elif len(level) > 1:
        effect = "no loss changed a training label"
    else:
        effect = f"{name} changed no training label"
    if pd.notna(row["memorised"]):
        effect += f"; with {name} the network had memorised {percent(row['memorised'])} of the wrong labels"
        rival = level[(level["space"] == reference) & level["memorised"].notna()]
        if len(rival) and row["space"] != reference:
            effect += f", with {in_words(reference)} {percent(rival['memorised'].iloc[0])}"
    trials = f"mean of {row['trials']} trainings" if row["trials"] > 1 else "one training"
    stage = "" if confirmed else " of the search"
    where = level_with_rate(str(row["noise"]), row["rate"])
    return f"At {where}, {effect} ({trials}{stage}; a description, not a test)."
