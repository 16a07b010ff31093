"""Labels that a loss corrected, and how many of them to the true label, computed from a trial's per-utterance table.

The table is that of ``ser.training.utterance_table``. A label counts as corrected if the label after the last
correction is not the noisy one, and as right if it is the true one. All functions use training utterances only.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ser.training.utterance_table import TRAIN

ALL, GENDER, SPEAKER = "all", "gender", "speaker"
UNKNOWN_GENDER = "unknown"
PAIR = ["noisy_label", "corrected_label"]


def corrected_pairs(utterances: pd.DataFrame, column: str | None = None) -> pd.DataFrame:
    """Count the corrected labels by noisy and corrected label.

    Args:
        utterances: The table, or some of its rows.
        column: Column whose values are counted separately; it becomes the first one of the result.

    Returns:
        One row per pair, the most frequent first, ties by name: ``noisy_label``, ``corrected_label``, ``flips`` (labels
        corrected so), ``judged`` (of these, with known true label), ``right``, ``wrong``, ``share_right`` (of the
        judged; NaN if there is none).

    Example:
        >>> table = pd.DataFrame({
        ...     "subset": ["train", "train", "train"],
        ...     "label": ["sad", "happy", "sad"],
        ...     "noisy_label": ["happy", "happy", "sad"],
        ...     "corrected_label": ["sad", "sad", "sad"],
        ... })
        >>> corrected_pairs(table).to_dict("records")  # doctest: +NORMALIZE_WHITESPACE
        [{'noisy_label': 'happy', 'corrected_label': 'sad', 'flips': 2, 'judged': 2, 'right': 1, 'wrong': 1,
          'share_right': 0.5}]
    """
    corrected = _training_rows(utterances)
    corrected = corrected[corrected["flipped"]]
    groups = [] if column is None else [column]
    pairs = corrected.groupby([*groups, *PAIR], sort=True).agg(
        flips=("flipped", "sum"), judged=("judged", "sum"), right=("right", "sum")
    )
    order = [True] * len(groups) + [False]
    pairs = pairs.astype(int).reset_index().sort_values([*groups, "flips"], ascending=order, kind="stable")
    pairs = pairs.reset_index(drop=True)
    pairs["wrong"] = pairs["judged"] - pairs["right"]
    pairs["share_right"] = _share(pairs["right"], pairs["judged"])
    return pairs


def correction_scores(utterances: pd.DataFrame, column: str | None = None) -> pd.DataFrame:
    """Compute precision and recall of the corrections at the end of training.

    Args:
        utterances: The table, or some of its rows.
        column: Column whose values are scored separately; it becomes the first one of the result.

    Returns:
        One row, or one for each value of the column: ``utterances`` (that training drew), ``judged`` (with known true
        label), ``mislabelled`` (of the judged), ``flipped`` (corrected labels), ``flipped_judged``, ``right``,
        ``precision`` (right of the judged corrected labels), ``recall`` (right of the mislabelled); NaN where the
        divisor is 0.
    """
    rows = _training_rows(utterances)
    flags = pd.DataFrame(
        {
            "utterances": 1, "judged": rows["judged"], "mislabelled": rows["mislabelled"], "flipped": rows["flipped"],
            "flipped_judged": rows["flipped"] & rows["judged"], "right": rows["right"],
        }
    ).astype(int)  # fmt: skip
    if column is None:
        scores = pd.DataFrame([flags.sum()])
    else:
        there = sorted(utterances[column].dropna().unique())  # also those without a training utterance
        scores = flags.groupby(rows[column]).sum().reindex(there, fill_value=0).rename_axis(column).reset_index()
    scores["precision"] = _share(scores["right"], scores["flipped_judged"])
    scores["recall"] = _share(scores["right"], scores["mislabelled"])
    return scores


def first_changes(utterances: pd.DataFrame) -> pd.DataFrame:
    """Count the labels by the epoch in which they were changed for the first time.

    Args:
        utterances: The table, or some of its rows.

    Returns:
        One row per epoch with a first change: ``epoch``, ``utterances``, ``flipped`` (of these, corrected at the end;
        the others were changed back) and ``right`` (of the flipped).
    """
    changed = _training_rows(utterances).dropna(subset=["first_epoch_changed"])
    counts = changed.groupby("first_epoch_changed", sort=True).agg(
        utterances=("flipped", "size"), flipped=("flipped", "sum"), right=("right", "sum")
    )
    return counts.astype(int).rename_axis("epoch").reset_index()


def by_group(utterances: pd.DataFrame, compute: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Apply a computation to all utterances, to those of each gender, and to those of each speaker.

    Args:
        utterances: The table.
        compute: ``corrected_pairs`` or ``correction_scores``.

    Returns:
        Rows of ``compute`` after the columns ``by`` (``all``, ``gender`` or ``speaker``) and ``group``. There are no
        rows by gender if no gender is known.
    """
    found = [compute(utterances).assign(by=ALL, group=ALL)]
    for column in (GENDER, SPEAKER):
        if column != GENDER or has_gender(utterances):
            found.append(compute(utterances, column).rename(columns={column: "group"}).assign(by=column))
    scores = [name for name in found[0] if name not in ("by", "group")]
    return pd.concat([table[["by", "group", *scores]] for table in found], ignore_index=True)


def has_gender(utterances: pd.DataFrame) -> bool:
    """Return whether the gender of any speaker is known."""
    return bool((utterances["gender"] != UNKNOWN_GENDER).any())


def _training_rows(utterances: pd.DataFrame) -> pd.DataFrame:
    """Return the training utterances that were drawn, with boolean columns on their labels."""
    rows = utterances[(utterances["subset"] == TRAIN) & utterances["corrected_label"].notna()]
    flipped = (rows["corrected_label"] != rows["noisy_label"]).astype(bool)
    return rows.assign(
        judged=rows["label"].notna(),
        mislabelled=(rows["label"] != rows["noisy_label"]).fillna(False).astype(bool),
        flipped=flipped,
        right=flipped & (rows["corrected_label"] == rows["label"]).fillna(False).astype(bool),
    )


def _share(count: pd.Series[int], whole: pd.Series[int]) -> pd.Series[float]:
    return count / whole.where(whole > 0)
