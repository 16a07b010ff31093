"""Sentences, notes and displayed tables of the corrections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import pandas as pd

from analysis.common.corrected_labels import ALL, GENDER, SPEAKER, has_gender
from analysis.common.text import MISSING, between, listing, number, percent
from analysis.sections.corrections.suspicious import CLEANLAB, asks_network
from ser.training.utterance_table import TRAIN
from study.schema import in_words

IN_SAMPLE = (
    "Rankings of the training subset use the network's last prediction of each utterance, made in training "
    "(in-sample, one crop with masks and dropout; on stored embeddings the whole utterance with dropout): wrong "
    "labels that the network has memorised look right. If trust grows over time, the corrected label also depends on "
    "the position of an utterance in the last epoch. The validation subset was not trained on; no loss has used its "
    "labels, so it has only cleanlab's rankings."
)
SUSPICION = (
    "Weight kept: what the loss left of the label's weight of 1, the rest of which went to other classes. Probability: "
    "of the label, by the network."
)
RANKINGS = (
    "Rankings: loss, by the weight that the loss took from a label; confidence, by the label's probability; margin, by "
    "that minus the largest probability of another class (the last two are cleanlab's). Compare the average precision "
    "with chance, the share of wrong labels. AUC: area under the ROC curve, 0.5 by chance. P@k: share of wrong labels "
    "among the k most suspicious ones, where k is the number of wrong labels. ρ: Spearman's rank correlation with "
    "cleanlab's rankings, from −1 to 1."
)
NAMES = {"loss": "loss", "self_confidence": "confidence", "normalized_margin": "margin"}
FILTERS = ("noise", "method")


def scores_text(summary: pd.DataFrame) -> pd.DataFrame:
    """Return precision and recall of the corrections as displayed, overall and by gender.

    Args:
        summary: From ``correction_scores`` by group, with ``noise``, ``space`` and ``run_id``.

    Returns:
        Rows of trials that corrected a label; the others are named in a sentence.
    """
    correcting = summary.groupby("run_id")["flipped"].transform("max") > 0
    rows = summary[correcting & (summary["by"] != SPEAKER)]
    text = _keys(rows).assign(group=rows["group"])
    text["trained on"] = [f"{count:,}" for count in rows["utterances"]]
    text["wrong labels"] = [
        f"{wrong:,}" if judged else MISSING for wrong, judged in zip(rows["mislabelled"], rows["judged"], strict=True)
    ]
    text["corrected"] = [f"{count:,}" for count in rows["flipped"]]
    text["rightly"] = _right_counts(rows["right"], rows["flipped_judged"], rows["flipped"])
    text["precision"] = rows["precision"].map(percent)
    text["recall"] = rows["recall"].map(percent)
    return text


def pairs_text(pairs: pd.DataFrame, shown: int, words: Mapping[str, str]) -> pd.DataFrame:
    """Return the most frequent corrected pairs of each trial as displayed, with the counts of each gender.

    Args:
        pairs: From ``corrected_pairs`` by group, with ``noise``, ``space`` and ``run_id``.
        shown: Number of pairs per trial.
        words: Class → its emotion in words.
    """
    whole = pairs[pairs["by"] == ALL]
    top = whole[whole.groupby("run_id").cumcount() < shown]
    text = _keys(top)
    text["noisy label"], text["corrected to"] = top["noisy_label"].map(words), top["corrected_label"].map(words)
    text["labels"] = [f"{count:,}" for count in top["flips"]]
    text["rightly"] = _right_counts(top["right"], top["judged"], top["flips"])
    keys = ["run_id", "noisy_label", "corrected_label"]
    for gender, rows in pairs[pairs["by"] == GENDER].groupby("group", sort=True):
        counts = {tuple(row[key] for key in keys): row for row in rows.to_dict("records")}
        found = [counts.get(pair) for pair in top[keys].itertuples(index=False, name=None)]
        text[f"{gender} (rightly)"] = [
            MISSING if row is None else _count_of_gender(row["flips"], row["right"], row["judged"]) for row in found
        ]
    return text


def ranking_text(ranking: pd.DataFrame, asking: Collection[str]) -> pd.DataFrame:
    """Return the quality of the rankings as displayed, with Spearman's ρ with cleanlab's rankings.

    Args:
        ranking: From ``analysis.sections.corrections.suspicious.compare_rankings``, with ``noise``, ``space`` and
            ``run_id``.
        asking: Runs whose loss uses the network's predictions; the others' ranking by the loss is that by confidence.

    Returns:
        Rows of trials that a ranking can be judged of, or all if no true label is known; no column without a value.
    """
    nothing_wrong = (ranking["judged"] > 0) & (ranking["mislabelled"] == 0)
    same = (ranking["ranking"] == "loss") & ~ranking["run_id"].isin(list(asking))
    rows = ranking[~nothing_wrong & ~same]
    text = _keys(rows).assign(subset=rows["subset"].replace(TRAIN, "training"), ranking=rows["ranking"].map(NAMES))
    columns = {"chance": "chance", "average_precision": "average precision", "roc_auc": "AUC", "precision_at_k": "P@k"}
    columns |= {f"spearman_{name}": f"ρ with {NAMES[name]}" for name in CLEANLAB}
    for column, title in columns.items():
        if rows[column].notna().any():
            text[title] = rows[column].map(number)
    return text


def first_change_sentence(changes: pd.DataFrame) -> str:
    """Return a sentence on the epochs in which the labels of a trial were changed for the first time.

    Args:
        changes: From ``analysis.common.corrected_labels.first_changes``, with ``noise`` and ``space``; not empty.
    """
    total, corrected = int(changes["utterances"].sum()), int(changes["flipped"].sum())
    half = changes["epoch"][(2 * changes["utterances"].cumsum() >= total)].iloc[0]
    first, last = changes["epoch"].iloc[0], changes["epoch"].iloc[-1]
    when = f"in epoch {first}" if first == last else f"in epochs {first} to {last} (half of them by epoch {half})"
    back = f"of these, {total - corrected:,} changed back" if corrected < total else "none changed back"
    labels = "label" if total == 1 else "labels"
    return (
        f"{in_words(changes['space'].iloc[0])} at {changes['noise'].iloc[0]} changed {total:,} {labels}, first {when}; "
        f"{back}."
    )


def named(trials: Iterable[tuple[str, str]]) -> str:
    """Return trials as sentences name them: by method, with its noise levels.

    Args:
        trials: Pairs of noise level and search space.

    Example:
        >>> named([("clean", "elr"), ("clean", "proselflc"), ("noisy-B", "elr")])
        'ELR at clean and noisy-B; ProSelfLC at clean'
        >>> named([("clean", "elr"), ("clean", "proselflc")])
        'ELR and ProSelfLC at clean'
    """
    levels: dict[str, list[str]] = {}
    for noise, space in trials:
        levels.setdefault(space, []).append(noise)
    spaces: dict[tuple[str, ...], list[str]] = {}
    for space, names in levels.items():
        spaces.setdefault(tuple(names), []).append(in_words(space))
    return "; ".join(f"{listing(found)} at {listing(names)}" for names, found in spaces.items())


def remarks(trials: Sequence[tuple[str, str, pd.DataFrame]]) -> list[str]:
    """Return remarks that are needed to interpret the tables, each with the trials that it is about.

    Args:
        trials: Noise level, search space and per-utterance table of each trial.
    """

    def trained(utterances: pd.DataFrame) -> pd.DataFrame:
        return utterances[utterances["subset"] == TRAIN]

    conditions: list[tuple[Callable[[pd.DataFrame], bool], str]] = [
        (
            lambda table: not asks_network(table),
            "the loss corrects no labels by the network's predictions (trust is always 0), so its ranking is that by "
            "confidence and is not shown",
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
            "come last in suspicious.csv, without a rank",
        ),
    ]
    found = []
    for holds, meaning in conditions:
        if concerned := [(noise, space) for noise, space, table in trials if holds(table)]:
            found.append(f"{named(concerned)}: {meaning}.")
    return found


def suspicious_text(top: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    """Return the most suspicious labels as displayed.

    Args:
        top: Rows of ``analysis.sections.corrections.suspicious.rank_labels``, with ``noise`` and ``space``.
        words: Class → its emotion in words.
    """
    text = _keys(top).assign(utterance=top["utterance_id"])
    text["label"] = top["noisy_label"].map(words)
    text["corrected to"] = top["corrected_label"].map(words)
    text["true label"] = top["label"].map(words).fillna(MISSING)
    text["weight kept"] = top["kept"].map(number)
    text["probability"] = top["p_noisy_label"].map(number)
    return text


def correction_sentence(curves: pd.DataFrame) -> str:
    """Return a sentence on a method's corrections in the last epoch.

    Args:
        curves: Rows of one noise level and space: ``noise``, ``space``, ``run_id``, ``epoch``, ``precision``,
            ``recall``.
    """
    last = curves.sort_values("epoch").groupby("run_id").last()
    trials = f"mean of {len(last)} trials" if len(last) > 1 else "one trial"
    start = f"{in_words(curves['space'].iloc[0])} at {curves['noise'].iloc[0]}, last epoch ({trials}):"
    if last["recall"].isna().all():
        return f"{start} no label is wrong, so every change makes one wrong."
    return (
        f"{start} of the labels that it changed, {_mean_and_range(last['precision'])} became the true one (precision); "
        f"of the wrong labels, {_mean_and_range(last['recall'])} became the true one (recall)."
    )


def _keys(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the displayed columns that identify a method."""
    return pd.DataFrame({"noise": rows["noise"], "method": rows["space"].map(in_words)})


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
