"""Agreement between annotators: strata, soft labels, chance-corrected coefficients and the human ceiling.

Functions take counts of votes, (N, C), or one row per vote. A statistic that is not defined for the data is NaN; its
docstring says when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import krippendorff
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ser.metrics.classification import entropy, uar
from ser.utils.errors import DataErrors, UserError

STRATA = ("unanimous", "majority", "plurality", "none")
"""From full agreement to none."""
OTHER = "other"
"""The label of an anonymous vote for a category outside the class set."""


def strata(votes: ArrayLike, other: ArrayLike | None = None) -> NDArray[np.object_]:
    """Return the agreement stratum of each utterance.

    ``unanimous``: all votes are for one class; a single vote counts as unanimous. ``majority``: the largest count is
    more than half of all votes. ``plurality``: a unique largest count of at most half. ``none``: a tie for the largest
    count, or no votes.

    Args:
        votes: (N, C) ints, votes per class.
        other: (N,) ints, votes for categories outside the class set. They count as one further category, so two
            different ones count as agreement with each other; None is no such votes.

    Returns:
        (N,) names out of ``STRATA``.

    Raises:
        ValueError: If counts are negative, not integers, or of another shape.

    Example:
        >>> strata([[3, 0], [2, 1], [1, 1]]).tolist()
        ['unanimous', 'majority', 'none']
    """
    counts = _counts(votes)
    if other is not None:
        outside = np.asarray(other)
        if outside.shape != (len(counts),):
            raise ValueError(f"other has shape {outside.shape} for {len(counts)} utterances")
        counts = np.column_stack([counts, _counts(outside[:, None])[:, 0]])
    largest, total = counts.max(axis=1), counts.sum(axis=1)
    stratum = np.select([_plurality(counts) < 0, largest == total, 2 * largest > total], [3, 0, 1], default=2)
    return np.asarray(np.array(STRATA, dtype=object)[stratum])


def soft_labels(votes: ArrayLike) -> NDArray[np.float64]:
    """Convert each utterance's votes to a distribution over the classes.

    Source: Fayek, Lech and Cavedon, Modeling subjectiveness in emotion recognition with deep neural networks:
    ensembles vs soft labels, IJCNN 2016.

    Args:
        votes: (N, C) ints, votes per class; at least one vote in each row.

    Returns:
        (N, C), rows sum to 1.

    Raises:
        ValueError: If rows have no votes (reports their number), or counts are negative, not integers or not (N, C).

    Example:
        >>> soft_labels([[3, 1], [0, 2]]).tolist()
        [[0.75, 0.25], [0.0, 1.0]]
    """
    counts = _counts(votes)
    total = counts.sum(axis=1, keepdims=True)
    if empty := int((total == 0).sum()):
        raise ValueError(f"{empty} of {len(counts)} utterances have no votes for any of the classes")
    return np.asarray(counts / total)


def vote_entropy(votes: ArrayLike) -> NDArray[np.float64]:
    """Compute the normalised Shannon entropy of each utterance's votes: the entropy divided by log C.

    The division makes class sets of different sizes comparable. The entropy underestimates disagreement where
    annotators are few: that of n votes cannot exceed log n / log C.

    Args:
        votes: (N, C) ints, votes per class, C at least 2; at least one vote in each row.

    Returns:
        (N,) from 0 (all votes for one class) to 1 (the same number for every class).

    Raises:
        ValueError: If there are fewer than two classes; otherwise as for ``soft_labels``.
    """
    shares = soft_labels(votes)
    classes = shares.shape[1]
    if classes < 2:
        raise ValueError("the entropy of votes needs at least two classes")
    return np.asarray(entropy(shares) / np.log(classes))


def fleiss_kappa(counts: ArrayLike) -> float:
    """Compute Fleiss' kappa, the agreement beyond chance, for any number of votes per item.

    κ = (P − Pₑ) / (1 − Pₑ). P is the mean of Pᵢ = Σⱼ nᵢⱼ(nᵢⱼ − 1) / (nᵢ(nᵢ − 1)) over the items with at least two
    votes, all items weighted equally. Pₑ = Σⱼ πⱼ², where πⱼ is the mean of nᵢⱼ / nᵢ over all items with votes.
    With the same number of votes for every item this is Fleiss' definition.

    Source: Fleiss, Measuring nominal scale agreement among many raters, Psychological Bulletin 76, 1971; for
    unequal numbers of votes Gwet, Handbook of Inter-Rater Reliability, 4th edition, 2014, chapter 2. (Fleiss and
    Cuzick 1979 weight items by their votes instead.)

    Args:
        counts: (N, K) ints, votes per category, optionally with a column of votes outside the class set.

    Returns:
        At most 1; 0 is chance. NaN if no item has two votes, or if all votes are for one category.

    Raises:
        ValueError: If counts are negative, not integers, or not (N, K).
    """
    table = _counts(counts)
    table = table[table.sum(axis=1) > 0]
    total = table.sum(axis=1)
    several = total > 1
    if not several.any() or (table.sum(axis=0) > 0).sum() < 2:
        return float("nan")
    pairs = (table * (table - 1)).sum(axis=1)[several] / (total * (total - 1))[several]
    chance = float(((table / total[:, None]).mean(axis=0) ** 2).sum())
    return (float(pairs.mean()) - chance) / (1 - chance)


def krippendorff_alpha(counts: ArrayLike) -> float:
    """Compute Krippendorff's alpha for nominal categories, using the package ``krippendorff``.

    Unlike ``fleiss_kappa`` it weights items by their votes, corrects for the size of the sample, and excludes items
    with fewer than two votes. With the same number of votes for every item and n votes in total,
    1 − α = (1 − κ)(n − 1) / n.

    Source: Krippendorff, Content Analysis, 3rd edition, 2013, chapter 12; Computing Krippendorff's
    Alpha-Reliability, 2011.

    Args:
        counts: (N, K) ints, votes per category, optionally with a column of votes outside the class set.

    Returns:
        At most 1; 0 is chance. NaN if no item has two votes, or if all votes of such items are for one
        category. A single such item gives 0, whatever its votes.

    Raises:
        ValueError: If counts are negative, not integers, or not (N, K).

    Example:
        >>> krippendorff_alpha([[2, 0], [0, 2]])
        1.0
        >>> round(krippendorff_alpha([[3, 0], [2, 1], [0, 3]]), 3)
        0.6
    """
    table = _counts(counts)
    table = table[table.sum(axis=1) > 1]
    table = table[:, table.any(axis=0)]
    if table.shape[1] < 2:
        return float("nan")
    return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))


@dataclass(frozen=True)
class AnnotatorScore:
    """Score of one annotator against the plurality of the others.

    Args:
        uar: Mean recall over the classes that occur as reference for this annotator, 0 to 1; NaN without pairs.
        pairs: Number of scored utterances.
    """

    uar: float
    pairs: int


@dataclass(frozen=True)
class HumanCeiling:
    """Score of one annotator against the plurality of the others, pooled over all pairs of utterance and annotator.

    Args:
        uar: Mean recall over the classes that occur as reference, 0 to 1; NaN without pairs.
        standard_error: Standard error of ``uar`` over utterances, because the pairs of one utterance share their votes;
            the annotators are taken as given. NaN with fewer than two scored utterances.
        accuracy: Share of correct answers (WA), 0 to 1; NaN without pairs.
        recall: Class → recall, for every class; NaN for a class that is never the reference.
        pairs: Number of scored pairs of utterance and annotator.
        skipped: Number of pairs whose other annotators have no unique plurality within the class set.
        annotators: Number of annotators with a name; 0 where all are anonymous.
        by_annotator: Name → score, for every annotator with a name; empty where all are anonymous.
    """

    uar: float
    standard_error: float
    accuracy: float
    recall: dict[str, float]
    pairs: int
    skipped: int
    annotators: int
    by_annotator: dict[str, AnnotatorScore]


def human_ceiling(annotations: pd.DataFrame, classes: Sequence[str]) -> HumanCeiling:
    """Compute the human ceiling: leave out one annotator at a time and score that annotator like a classifier.

    For each utterance and each of its annotators, the reference is the unique plurality of the other annotators'
    votes within the class set; every category that one of them named is one vote. An annotator who named k
    categories gets 1/k where the reference is among them; categories outside the set are wrong answers. Pairs
    without a reference are skipped and counted.

    This is the score of one average annotator, not a bound: a model may exceed it. The reference lacks the left-out
    vote, so it is slightly less reliable than the label that models are scored against. Pass every annotated
    utterance, including those without a consensus: excluding them selects on the votes that are scored, which
    raises the score. With all of them, annotators who answer at random score 1/C on average.

    Source: the definition is this function's own. UAR: Schuller, Steidl and Batliner, The INTERSPEECH 2009
    Emotion Challenge. The standard error is that of a sum of ratios by linearisation, with utterances as clusters
    (Woodruff, Journal of the American Statistical Association 66, 1971).

    Args:
        annotations: One row for each category that an annotator named for an utterance, with the columns
            ``utterance_id``, ``annotator`` and ``label``. A category that an annotator names twice for an
            utterance counts once. A row without an annotator is one vote by a further, anonymous annotator.
        classes: The C class names; any other label is outside the set.

    Returns:
        The pooled scores, and those of each annotator with a name.

    Raises:
        UserError: If a column is missing.
        DataErrors: If rows lack an utterance or a label; lists all of them.

    Example:
        >>> votes = {"u1": ["angry", "angry", "sad"], "u2": ["sad", "sad", "sad"]}
        >>> rows = [(name, f"a{i}", label) for name, labels in votes.items() for i, label in enumerate(labels)]
        >>> found = human_ceiling(pd.DataFrame(rows, columns=["utterance_id", "annotator", "label"]), ["angry", "sad"])
        >>> found.uar, found.pairs, found.skipped  # u1's first two votes have a tie among the others
        (0.5, 4, 2)
    """
    _check_annotations(annotations)
    answers = _answers(annotations, classes)
    votes = np.zeros((answers.utterances, len(classes)))
    np.add.at(votes, answers.utterance, answers.named)
    reference = _plurality(votes[answers.utterance] - answers.named)

    scored = np.flatnonzero(reference >= 0)
    truth = reference[scored]
    credit = answers.named[scored, truth] / answers.categories[scored]
    hits = _tally(answers.utterance[scored], truth, credit, votes.shape)
    totals = _tally(answers.utterance[scored], truth, 1.0, votes.shape)
    recall = _recall(hits.sum(axis=0), totals.sum(axis=0))

    annotator, names = answers.annotator[scored], answers.names
    with_name = annotator < len(names)
    cell = (annotator[with_name], truth[with_name])
    own_totals = _tally(*cell, 1.0, (len(names), len(classes)))
    own_hits = _tally(*cell, credit[with_name], own_totals.shape)
    return HumanCeiling(
        uar=uar(hits.sum(axis=0), totals.sum(axis=0)),
        standard_error=_standard_error(hits, totals, recall),
        accuracy=float(credit.mean()) if len(credit) else float("nan"),
        recall=dict(zip(classes, recall.tolist(), strict=True)),
        pairs=len(scored),
        skipped=len(reference) - len(scored),
        annotators=len(names),
        by_annotator={
            str(name): AnnotatorScore(uar(own_hits[i], own_totals[i]), int(own_totals[i].sum()))
            for i, name in enumerate(names)
        },
    )


class _Answers(NamedTuple):
    """Categories that each annotator named for each utterance, one row for each of the P pairs.

    Args:
        utterance: (P,) index of the utterance.
        annotator: (P,) index into ``names``; indices after its end are anonymous annotators.
        named: (P, C) 1 for each class that the annotator named.
        categories: (P,) number of categories that the annotator named, including those outside the class set.
        utterances: Number of utterances.
        names: Names of the annotators.
    """

    utterance: NDArray[np.int64]
    annotator: NDArray[np.int64]
    named: NDArray[np.float64]
    categories: NDArray[np.int64]
    utterances: int
    names: Sequence[str]


def _answers(annotations: pd.DataFrame, classes: Sequence[str]) -> _Answers:
    # Sums of shares such as 1/3 would differ in their last digit with the order of the rows.
    annotations = annotations.sort_values(["utterance_id", "annotator", "label"], kind="stable", ignore_index=True)
    utterance, utterances = pd.factorize(annotations["utterance_id"], sort=True)
    annotator, names = pd.factorize(annotations["annotator"], sort=True)
    label, _ = pd.factorize(annotations["label"])
    annotator = np.where(annotator < 0, len(names) + np.arange(len(annotator)), annotator)
    kept = ~pd.DataFrame({"utterance": utterance, "annotator": annotator, "label": label}).duplicated().to_numpy()
    utterance, annotator = utterance[kept], annotator[kept]
    column = pd.Index(list(classes)).get_indexer(pd.Index(annotations["label"]))[kept]  # −1: outside the class set

    key = utterance.astype(np.int64) * (len(names) + len(kept)) + annotator
    _, first, pair, categories = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    named = _tally(pair[column >= 0], column[column >= 0], 1.0, (len(first), len(classes)))
    return _Answers(utterance[first], annotator[first], named, categories, len(utterances), list(names))


def anonymous_annotations(
    ids: Sequence[str], votes: ArrayLike, classes: Sequence[str], other: ArrayLike | None = None
) -> pd.DataFrame:
    """Convert counts of votes to anonymous annotations, for ``human_ceiling``.

    The pooled scores equal those with names if every annotator gave one category for an utterance, once. Where
    annotators gave several, each category becomes an annotator, and the scores differ.

    Args:
        ids: N utterance ids.
        votes: (N, C) ints, votes per class.
        classes: The C class names.
        other: (N,) ints, votes for categories outside the class set; None is no such votes.

    Returns:
        One row for each vote, with the columns ``utterance_id``, ``annotator`` (missing) and ``label`` (a class,
        or ``OTHER``).

    Raises:
        ValueError: If counts are negative, not integers or of another shape, or if ``other`` is given and a class is
            named ``OTHER``.
    """
    counts, labels = _counts(votes), list(classes)
    if other is not None:
        if OTHER in labels:
            raise ValueError(f"class {OTHER!r} has the name of votes outside the class set")
        counts, labels = np.column_stack([counts, _counts(np.asarray(other)[:, None])]), [*labels, OTHER]
    if counts.shape != (len(ids), len(labels)):
        raise ValueError(f"votes of shape {np.shape(votes)} for {len(ids)} utterances and {len(classes)} classes")
    row, column = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return pd.DataFrame(
        {
            "utterance_id": np.array(list(ids), dtype=object)[row],
            "annotator": np.full(len(row), None, dtype=object),
            "label": np.array(labels, dtype=object)[column],
        }
    )


def _counts(votes: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(votes)
    if counts.ndim != 2 or counts.shape[1] == 0 or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(
            f"votes must be non-negative integers of shape (utterances, classes), got {counts.dtype} of shape "
            f"{counts.shape}"
        )
    return counts.astype(np.int64)


def _plurality(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (N,) the column with the unique largest count; −1 for a tie or without votes."""
    largest = counts.max(axis=1, keepdims=True)
    unique = (largest[:, 0] > 0) & ((counts == largest).sum(axis=1) == 1)
    return np.where(unique, counts.argmax(axis=1), -1)


def _check_annotations(annotations: pd.DataFrame) -> None:
    columns = ("utterance_id", "annotator", "label")
    if missing := [column for column in columns if column not in annotations]:
        raise UserError(
            f"annotations have no column {' or '.join(map(repr, missing))}; "
            f"they need {', '.join(columns)} and have {', '.join(map(str, annotations.columns))}."
        )
    faults = [
        (f"row {position + 1}", f"{column} is missing")
        for column in ("utterance_id", "label")
        for position in np.flatnonzero(annotations[column].isna())
    ]
    if faults:
        raise DataErrors("annotations", faults, "Give every row an utterance and a label, or remove the row.")


def _tally(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    amount: NDArray[np.float64] | float,
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Sum the amounts at each row and column."""
    table = np.zeros(shape)
    np.add.at(table, (row, column), amount)
    return table


def _recall(hits: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(hits, totals, out=np.full(hits.shape, np.nan), where=totals > 0))


def _standard_error(hits: NDArray[np.float64], totals: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Compute the standard error of the mean recall from (U, C) credits and pairs per utterance, and (C,) recall."""
    utterances = int(totals.any(axis=1).sum())
    if utterances < 2:
        return float("nan")
    present = ~np.isnan(recall)
    influence = ((hits - recall * totals) / np.maximum(totals.sum(axis=0), 1))[:, present].sum(axis=1) / present.sum()
    return float(np.sqrt(utterances / (utterances - 1) * (influence**2).sum()))
