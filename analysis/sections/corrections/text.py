"""The tables and notes of analysis/corrections.py in words: what is shown is computed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from analysis.common.label_flips import ALL, GENDER, SPEAKER, has_gender
from analysis.sections.corrections.suspicious import CLEANLAB, asks_network
from ser.training.utterance_table import TRAIN, VALIDATION

IN_SAMPLE = (
    "Rankings of the training part rest on what the network saw of each utterance last, after it had been trained on "
    "these labels (in-sample, one crop with masks and dropout): wrong labels that it has learnt look right. "
    "Where trust grows over time, what the loss took also depends on when in the last epoch an utterance came. The "
    "validation part was not trained on; no loss has seen its labels, so that it has cleanlab's rankings alone."
)
NAMES = {"loss": "loss", "self_confidence": "confidence", "normalized_margin": "margin"}


def scores_text(summary: pd.DataFrame) -> pd.DataFrame:
    """How well labels were corrected, overall and by gender, as text.

    Args:
        summary: From ``analysis.common.label_flips.correction_scores`` by group, with ``noise``, ``space`` and ``trial``.
    """
    rows = summary[summary["by"] != SPEAKER]
    text = rows[["noise", "space", "trial"]].copy()
    text["who"] = rows["group"]
    text["trained on"] = [f"{count:,}" for count in rows["utterances"]]
    text["mislabelled"] = [
        f"{wrong:,}" if judged else "–" for wrong, judged in zip(rows["mislabelled"], rows["judged"], strict=True)
    ]
    text["flipped"] = [f"{count:,}" for count in rows["flipped"]]
    text["right"] = _rights(rows["right"], rows["flipped_judged"], rows["flipped"])
    text["precision"] = rows["precision"].map(_number)
    text["recall"] = rows["recall"].map(_number)
    return text


def pairs_text(pairs: pd.DataFrame, shown: int) -> pd.DataFrame:
    """The most frequent flips of each trial, with each gender's share in them, as text.

    Args:
        pairs: From ``analysis.common.label_flips.flipped_pairs`` by group, with ``noise``, ``space``, ``trial`` and ``run_id``.
        shown: How many of each trial.
    """
    whole = pairs[pairs["by"] == ALL]
    top = whole[whole.groupby("run_id").cumcount() < shown]
    text = top[["noise", "space"]].copy()
    text["noisy label"], text["flipped to"] = top["noisy_label"], top["corrected_label"]
    text["flips"] = [f"{count:,}" for count in top["flips"]]
    text["right"] = _rights(top["right"], top["judged"], top["flips"])
    text["share right"] = top["share_right"].map(_number)
    keys = ["run_id", "noisy_label", "corrected_label"]
    for gender, rows in pairs[pairs["by"] == GENDER].groupby("group", sort=True):
        counts = {tuple(row[key] for key in keys): row for row in rows.to_dict("records")}
        found = [counts.get(pair) for pair in top[keys].itertuples(index=False, name=None)]
        text[f"{gender} (right)"] = [
            "–" if row is None else _of_gender(row["flips"], row["right"], row["judged"]) for row in found
        ]
    return text


def ranking_text(ranking: pd.DataFrame) -> pd.DataFrame:
    """How well suspicious labels were found, and Spearman's ρ with cleanlab's rankings, as text.

    Args:
        ranking: From ``analysis.sections.corrections.suspicious.compare_rankings``, with ``noise`` and ``space``.
    """
    text = ranking[["noise", "space"]].copy()
    text["subset"] = ranking["subset"].replace(VALIDATION, "val")
    text["ranking"] = ranking["ranking"].map(NAMES)
    text["wrong"] = [
        f"{wrong:,}/{judged:,}" if judged else "–"
        for wrong, judged in zip(ranking["mislabelled"], ranking["judged"], strict=True)
    ]
    columns = {"chance": "chance", "average_precision": "AP", "roc_auc": "AUC", "precision_at_k": "P@k"}
    columns |= {f"spearman_{name}": f"ρ {NAMES[name]}" for name in CLEANLAB}
    for column, title in columns.items():
        text[title] = ranking[column].map(_number)
    return text


def timing(changes: pd.DataFrame) -> str:
    """When the labels of one trial were changed for the first time, in a sentence.

    Args:
        changes: From ``analysis.common.label_flips.first_changes``; at least one row.
    """
    total, flipped = int(changes["utterances"].sum()), int(changes["flipped"].sum())
    half = changes["epoch"][(2 * changes["utterances"].cumsum() >= total)].iloc[0]
    first, last = changes["epoch"].iloc[0], changes["epoch"].iloc[-1]
    when = f"in epoch {first}" if first == last else f"in epochs {first} to {last}, half of them by epoch {half}"
    return f"Labels changed at some time: {total:,}, first {when}; back at the end: {total - flipped:,}."


def remarks(trials: Sequence[tuple[str, pd.DataFrame]]) -> list[str]:
    """What a reader must know of the tables, each remark with the trials that it is of.

    Args:
        trials: Name → table of utterances.
    """

    def trained(utterances: pd.DataFrame) -> pd.DataFrame:
        return utterances[utterances["subset"] == TRAIN]

    conditions: list[tuple[Callable[[pd.DataFrame], bool], str]] = [
        (
            lambda table: not asks_network(table),
            "the loss does not ask the network about a label (trust is 0 throughout), so the ranking 'loss' is that of "
            "the label's probability alone",
        ),
        (
            lambda table: bool(trained(table)["label"].isna().all()),
            "no true label is known, so no flip can be called right or wrong, and no ranking scored",
        ),
        (
            lambda table: bool(trained(table)["label"].isna().any() and trained(table)["label"].notna().any()),
            "some true labels are unknown; shares and scores are of the others",
        ),
        (
            lambda table: bool((trained(table)["label"] == trained(table)["noisy_label"]).fillna(False).all()),
            "no training label is wrong, so every flip is wrong, and there is nothing that a ranking could find",
        ),
        (lambda table: not has_gender(table), "no speaker's gender is known, so nothing is told by gender"),
        (
            lambda table: bool(trained(table)["corrected_label"].isna().any()),
            "some training utterances were never drawn (training.class_balance=sampling); they are in no count, and "
            "last in suspicious.csv, without a rank",
        ),
    ]
    found = []
    for holds, meaning in conditions:
        if names := [name for name, table in trials if holds(table)]:
            found.append(f"{'; '.join(names)}: {meaning}.")
    return found


def suspicious_text(top: pd.DataFrame) -> pd.DataFrame:
    """The most suspicious labels, as text.

    Args:
        top: Rows of ``analysis.sections.corrections.suspicious.rank_labels``, with ``noise`` and ``space``.
    """
    text = top[["noise", "space", "utterance_id", "speaker"]].rename(columns={"utterance_id": "utterance"})
    text["label"] = top["noisy_label"]
    text["corrected to"] = top["corrected_label"]
    text["kept"] = top["kept"].map(_number)
    text["p(label)"] = top["p_noisy_label"].map(_number)
    text["true label"] = top["label"].fillna("–")
    return text


def course(curves: pd.DataFrame) -> str:
    """How well a method corrected labels in the last epoch, in a sentence.

    Args:
        curves: Of one noise level and space: ``noise``, ``space``, ``run_id``, ``epoch``, ``precision`` and ``recall``.
    """
    last = curves.sort_values("epoch").groupby("run_id").last()
    trials = f"mean of {len(last)} trials" if len(last) > 1 else "one trial"
    told = [f"{curves['noise'].iloc[0]}, {curves['space'].iloc[0]}, last epoch ({trials}):"]
    told.append(f"of the labels that it changed, {_percent(last['precision'])} became the true one (precision);")
    if last["recall"].notna().any():
        told.append(f"of the wrong labels, {_percent(last['recall'])} became the true one (recall).")
    else:
        told.append("no label is wrong, so nothing could be found.")
    return " ".join(told)


def _percent(values: pd.Series[float]) -> str:
    """The mean, and from where to where where there are several."""
    spread = f" ({values.min():.0%} to {values.max():.0%})" if values.count() > 1 else ""
    return f"{values.mean():.0%}{spread}"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"


def _rights(right: pd.Series[int], judged: pd.Series[int], flips: pd.Series[int]) -> list[str]:
    """How many flips are right, and of how many where not all can be judged."""
    return [
        "–" if known == 0 < flipped else f"{good:,}" if known == flipped else f"{good:,} of {known:,}"
        for good, known, flipped in zip(right, judged, flips, strict=True)
    ]


def _of_gender(flips: int, right: int, judged: int) -> str:
    return f"{flips:,} ({right:,})" if judged else f"{flips:,} (–)"
