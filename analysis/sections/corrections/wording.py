"""Sentences, notes and displayed tables of the corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from analysis.common.corrected_labels import ALL, GENDER, SPEAKER, has_gender
from analysis.common.text import MISSING, between, number, percent
from analysis.sections.corrections.suspicious import CLEANLAB, asks_network
from ser.training.utterance_table import TRAIN, VALIDATION

IN_SAMPLE = (
    "Rankings of the training subset use the network's last prediction of each utterance, made in training (in-sample, "
    "one crop with masks and dropout): wrong labels that the network has memorised look right. If trust grows over "
    "time, the corrected label also depends on the position of an utterance in the last epoch. The validation subset "
    "was not trained on; no loss has used its labels, so it has only cleanlab's rankings."
)
NAMES = {"loss": "loss", "self_confidence": "confidence", "normalized_margin": "margin"}


def scores_text(summary: pd.DataFrame) -> pd.DataFrame:
    """Return precision and recall of the corrections as displayed, overall and by gender.

    Args:
        summary: From ``correction_scores`` by group, with ``noise``, ``space`` and ``trial``.
    """
    rows = summary[summary["by"] != SPEAKER]
    text = rows[["noise", "space", "trial"]].copy()
    text["group"] = rows["group"]
    text["trained on"] = [f"{count:,}" for count in rows["utterances"]]
    text["mislabelled"] = [
        f"{wrong:,}" if judged else MISSING for wrong, judged in zip(rows["mislabelled"], rows["judged"], strict=True)
    ]
    text["corrected"] = [f"{count:,}" for count in rows["flipped"]]
    text["right"] = _right_counts(rows["right"], rows["flipped_judged"], rows["flipped"])
    text["precision"] = rows["precision"].map(number)
    text["recall"] = rows["recall"].map(number)
    return text


def pairs_text(pairs: pd.DataFrame, shown: int) -> pd.DataFrame:
    """Return the most frequent corrected pairs of each trial as displayed, with the counts of each gender.

    Args:
        pairs: From ``corrected_pairs`` by group, with ``noise``, ``space``, ``trial`` and ``run_id``.
        shown: Number of pairs per trial.
    """
    whole = pairs[pairs["by"] == ALL]
    top = whole[whole.groupby("run_id").cumcount() < shown]
    text = top[["noise", "space"]].copy()
    text["noisy label"], text["corrected to"] = top["noisy_label"], top["corrected_label"]
    text["labels"] = [f"{count:,}" for count in top["flips"]]
    text["right"] = _right_counts(top["right"], top["judged"], top["flips"])
    text["share right"] = top["share_right"].map(number)
    keys = ["run_id", "noisy_label", "corrected_label"]
    for gender, rows in pairs[pairs["by"] == GENDER].groupby("group", sort=True):
        counts = {tuple(row[key] for key in keys): row for row in rows.to_dict("records")}
        found = [counts.get(pair) for pair in top[keys].itertuples(index=False, name=None)]
        text[f"{gender} (right)"] = [
            MISSING if row is None else _count_of_gender(row["flips"], row["right"], row["judged"]) for row in found
        ]
    return text


def ranking_text(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the quality of the rankings as displayed, with Spearman's ρ with cleanlab's rankings.

    Args:
        ranking: From ``analysis.sections.corrections.suspicious.compare_rankings``, with ``noise`` and ``space``.
    """
    text = ranking[["noise", "space"]].copy()
    text["subset"] = ranking["subset"].replace(VALIDATION, "val")
    text["ranking"] = ranking["ranking"].map(NAMES)
    text["wrong"] = [
        f"{wrong:,}/{judged:,}" if judged else MISSING
        for wrong, judged in zip(ranking["mislabelled"], ranking["judged"], strict=True)
    ]
    columns = {"chance": "chance", "average_precision": "AP", "roc_auc": "AUC", "precision_at_k": "P@k"}
    columns |= {f"spearman_{name}": f"ρ {NAMES[name]}" for name in CLEANLAB}
    for column, title in columns.items():
        text[title] = ranking[column].map(number)
    return text


def first_change_sentence(changes: pd.DataFrame) -> str:
    """Return a sentence on the epochs in which the labels of a trial were changed for the first time.

    Args:
        changes: From ``analysis.common.corrected_labels.first_changes``; at least one row.
    """
    total, corrected = int(changes["utterances"].sum()), int(changes["flipped"].sum())
    half = changes["epoch"][(2 * changes["utterances"].cumsum() >= total)].iloc[0]
    first, last = changes["epoch"].iloc[0], changes["epoch"].iloc[-1]
    when = f"in epoch {first}" if first == last else f"in epochs {first} to {last}, half of them by epoch {half}"
    return f"Labels changed at least once: {total:,}, first {when}; changed back at the end: {total - corrected:,}."


def remarks(trials: Sequence[tuple[str, pd.DataFrame]]) -> list[str]:
    """Return remarks that are needed to interpret the tables, each with the trials that it is about.

    Args:
        trials: Pairs of name and per-utterance table.
    """

    def trained(utterances: pd.DataFrame) -> pd.DataFrame:
        return utterances[utterances["subset"] == TRAIN]

    conditions: list[tuple[Callable[[pd.DataFrame], bool], str]] = [
        (
            lambda table: not asks_network(table),
            "the loss does not use the network's predictions to correct labels (trust is always 0), so the ranking "
            "'loss' is by the label's probability only",
        ),
        (
            lambda table: bool(trained(table)["label"].isna().all()),
            "no true label is known, so corrections cannot be judged and rankings cannot be scored",
        ),
        (
            lambda table: bool(trained(table)["label"].isna().any() and trained(table)["label"].notna().any()),
            "some true labels are unknown; shares and scores are of the others",
        ),
        (
            lambda table: bool((trained(table)["label"] == trained(table)["noisy_label"]).fillna(False).all()),
            "no training label is wrong, so every correction is wrong and a ranking has nothing to find",
        ),
        (lambda table: not has_gender(table), "no speaker's gender is known, so there are no results by gender"),
        (
            lambda table: bool(trained(table)["corrected_label"].isna().any()),
            "some training utterances were never drawn (training.class_balance=sampling); they are not counted, and "
            "are last in suspicious.csv, without a rank",
        ),
    ]
    found = []
    for holds, meaning in conditions:
        if names := [name for name, table in trials if holds(table)]:
            found.append(f"{'; '.join(names)}: {meaning}.")
    return found


def suspicious_text(top: pd.DataFrame) -> pd.DataFrame:
    """Return the most suspicious labels as displayed.

    Args:
        top: Rows of ``analysis.sections.corrections.suspicious.rank_labels``, with ``noise`` and ``space``.
    """
    text = top[["noise", "space", "utterance_id", "speaker"]].rename(columns={"utterance_id": "utterance"})
    text["label"] = top["noisy_label"]
    text["corrected to"] = top["corrected_label"]
    text["kept"] = top["kept"].map(number)
    text["p(label)"] = top["p_noisy_label"].map(number)
    text["true label"] = top["label"].fillna(MISSING)
    return text


def correction_sentence(curves: pd.DataFrame) -> str:
    """Return a sentence on a method's corrections in the last epoch.

    Args:
        curves: Rows of one noise level and space: ``noise``, ``space``, ``run_id``, ``epoch``, ``precision``,
            ``recall``.
    """
    last = curves.sort_values("epoch").groupby("run_id").last()
    trials = f"mean of {len(last)} trials" if len(last) > 1 else "one trial"
    recall = (
        f"of the wrong labels, {_mean_and_range(last['recall'])} became the true one (recall)"
        if last["recall"].notna().any()
        else "no label is wrong, so there is no recall"
    )
    return (
        f"{curves['noise'].iloc[0]}, {curves['space'].iloc[0]}, last epoch ({trials}): of the labels that it changed, "
        f"{_mean_and_range(last['precision'])} became the true one (precision); {recall}."
    )


def _mean_and_range(shares: pd.Series[float]) -> str:
    spread = f" ({between(shares.min(), shares.max(), '.0%')})" if shares.max() > shares.min() else ""
    return f"{percent(shares.mean())}{spread}"


def _right_counts(right: pd.Series[int], judged: pd.Series[int], corrected: pd.Series[int]) -> list[str]:
    """Return the number of right corrections, and of the judged ones if not all can be judged."""
    return [
        MISSING if known == 0 < count else f"{good:,}" if known == count else f"{good:,} of {known:,}"
        for good, known, count in zip(right, judged, corrected, strict=True)
    ]


def _count_of_gender(corrected: int, right: int, judged: int) -> str:
    return f"{corrected:,} ({right:,})" if judged else f"{corrected:,} ({MISSING})"
