"""Which labels a loss flipped, and how many of them rightly: computed from a trial's table of utterances.

The table is that of ``ser.training.utterance_table``. A label is flipped where the last corrected label is not the noisy one, and
flipped rightly where it is the true one. Functions look at the training utterances alone.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ser.training.utterance_table import TRAIN

ALL, GENDER, SPEAKER = "all", "gender", "speaker"
UNKNOWN_GENDER = "unknown"
PAIR = ["noisy_label", "corrected_label"]


def flipped_pairs(utterances: pd.DataFrame) -> pd.DataFrame:
    """The flips by noisy and corrected label, most frequent first, equals by name.

    Args:
        utterances: The table, or some of its rows.

    Returns:
        One row for each pair that was flipped: ``noisy_label``, ``corrected_label``, ``flips``, ``judged`` (flips
        whose true label is known), ``right``, ``wrong``, ``share_right`` (of the judged; NaN where none is).
    """
    flips = _trained(utterances)
    flips = flips[flips["flipped"]]
    pairs = flips.groupby(PAIR, sort=True).agg(
        flips=("flipped", "sum"), judged=("judged", "sum"), right=("right", "sum")
    )
    pairs = pairs.astype(int).reset_index().sort_values("flips", ascending=False, kind="stable", ignore_index=True)
    pairs["wrong"] = pairs["judged"] - pairs["right"]
    pairs["share_right"] = _share(pairs["right"], pairs["judged"])
    return pairs


def correction_scores(utterances: pd.DataFrame) -> pd.DataFrame:
    """How well the labels were corrected at the end of the training.

    Args:
        utterances: The table, or some of its rows.

    Returns:
        One row: ``utterances`` (that training drew), ``judged`` (whose true label is known), ``mislabelled`` (of the
        judged), ``flipped``, ``flipped_judged``, ``right``, ``precision`` (right of the judged flips), ``recall``
        (right of the mislabelled); NaN where there is nothing to divide by.
    """
    seen = _trained(utterances)
    counts = {
        "utterances": len(seen),
        "judged": int(seen["judged"].sum()),
        "mislabelled": int(seen["mislabelled"].sum()),
        "flipped": int(seen["flipped"].sum()),
        "flipped_judged": int((seen["flipped"] & seen["judged"]).sum()),
        "right": int(seen["right"].sum()),
    }
    scores = pd.DataFrame([counts])
    scores["precision"] = _share(scores["right"], scores["flipped_judged"])
    scores["recall"] = _share(scores["right"], scores["mislabelled"])
    return scores


def first_changes(utterances: pd.DataFrame) -> pd.DataFrame:
    """When labels were changed for the first time, and what they came to.

    Args:
        utterances: The table, or some of its rows.

    Returns:
        One row for each epoch in which some label was changed for the first time: ``epoch``, ``utterances``,
        ``flipped`` (of them, at the end; the others were changed back) and ``right`` (of the flipped).
    """
    changed = _trained(utterances).dropna(subset=["first_epoch_changed"])
    counts = changed.groupby("first_epoch_changed", sort=True).agg(
        utterances=("flipped", "size"), flipped=("flipped", "sum"), right=("right", "sum")
    )
    return counts.astype(int).rename_axis("epoch").reset_index()


def by_group(utterances: pd.DataFrame, compute: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """A computation over all utterances, those of each gender, and those of each speaker.

    Args:
        utterances: The table.
        compute: One of the functions above.

    Returns:
        Its rows, behind ``by`` (``all``, ``gender`` or ``speaker``) and ``group``. Where no gender is known there are
        no rows by gender.
    """
    groups = [(ALL, ALL, utterances)]
    for column in (GENDER, SPEAKER):
        if column != GENDER or has_gender(utterances):
            groups += [(column, str(name), rows) for name, rows in utterances.groupby(column, sort=True)]
    found = []
    for by, group, rows in groups:
        table = compute(rows)
        table.insert(0, "by", by)
        table.insert(1, "group", group)
        found.append(table)
    return pd.concat(found, ignore_index=True)


def has_gender(utterances: pd.DataFrame) -> bool:
    """Whether some speaker's gender is known."""
    return bool((utterances["gender"] != UNKNOWN_GENDER).any())


def _trained(utterances: pd.DataFrame) -> pd.DataFrame:
    """The training utterances that were drawn, with what they are as plain booleans."""
    rows = utterances[(utterances["subset"] == TRAIN) & utterances["corrected_label"].notna()]
    flipped = (rows["corrected_label"] != rows["noisy_label"]).astype(bool)
    return rows.assign(
        judged=rows["label"].notna(),
        mislabelled=(rows["label"] != rows["noisy_label"]).fillna(False).astype(bool),
        flipped=flipped,
        right=flipped & (rows["corrected_label"] == rows["label"]).fillna(False).astype(bool),
    )


def _share(part: pd.Series[int], whole: pd.Series[int]) -> pd.Series[float]:
    return part / whole.where(whole > 0)
