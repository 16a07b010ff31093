"""Estimates of label noise: by confident learning, and by the predictions that a recogniser is surest of.

Neither estimate is the noise rate. Both compare the labels with a recogniser that was trained on other speakers' labels
of the same corpus, and the recogniser makes errors too. docs/noise.md has the estimates where the noise is known.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cleanlab.count import estimate_joint
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ser.corpora.corpus import Corpus
from ser.corpora.source_files import read_csv_rows
from ser.features.store import FeatureStore
from ser.metrics.agreement import HumanCeiling, anonymous_annotations, human_ceiling
from ser.metrics.classification import scores
from ser.noise.corruption import NAMED_RATES, corrupt
from ser.noise.recipes import human
from ser.splits import fold_groups
from ser.utils.errors import DataErrors, UserError, shown

LEVELS = {"clean": 0.0, **{name: rate for name, (rate, _) in NAMED_RATES.items()}}
"""Level → noise rate."""

SUREST = 0.1
"""Share of the utterances with the most confident predictions."""

QUANTILES = (0.1, 0.5, 0.9)
MIN_UTTERANCES = 10
"""Speakers with fewer utterances than this are standardised together."""
PENALTY = 0.01
"""C of the logistic regression: weights have a prior variance of .01, so that the logits of about 400 standardised
statistics have a prior standard deviation of 2, independent of the size of the corpus."""

SUM_TOLERANCE = 1e-3

ACCURACY = (
    "Accuracy where the noise is known, on synthetic and RAVDESS: at clean, noisy-A and noisy-B the estimate of the "
    "surest tenth was 10 points too low to 14 too high, and its nearest level correct in 21 of 22 draws, otherwise too "
    "high; confident learning was 4 to 29 points too high, and its level correct in 11. Where utterances that the "
    "recogniser finds ambiguous are mislabelled first, as by annotators, the surest tenth was 11 to 27 points too low "
    "at noisy-A, confident learning 8 too low to 5 too high. The weaker the recogniser, the higher both estimates."
)
"""Accuracy of the estimates; the table is in docs/noise.md."""

Probabilities = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Estimate:
    """Estimate of label noise from out-of-sample predictions.

    Args:
        uar: Unweighted average recall of the recogniser against the given labels, 0 to 1.
        uar_error: Standard error of ``uar`` over utterances.
        rate: Share of wrong labels by confident learning: the off-diagonal mass of the estimated joint distribution of
            given and true label.
        surest_rate: Share of the ``surest`` utterances whose label differs from the prediction.
        surest_error: Standard error of ``surest_rate``.
        surest: Number of utterances with the most confident predictions.
        joint: (C, C) estimated share of all utterances, true × given label.
        suspicious: (K,) rows whose labels look wrong, the most suspicious first; never the only one of its class.
        likely: (K,) predicted class indices of these rows.
        score: (K,) probability of the given label, 0 to 1, ascending.
    """

    uar: float
    uar_error: float
    rate: float
    surest_rate: float
    surest_error: float
    surest: int
    joint: NDArray[np.float64]
    suspicious: NDArray[np.int64]
    likely: NDArray[np.int64]
    score: NDArray[np.float64]

    @property
    def transition(self) -> NDArray[np.float64]:
        """Return the transition matrix (C, C), true × noisy: row-normalised, zeros for a class without utterances."""
        totals = self.joint.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(self.joint, totals, out=np.zeros_like(self.joint), where=totals > 0))


@dataclass(frozen=True)
class AddedNoise:
    """Estimate after known noise is added to the labels.

    Args:
        recipe: Recipe of the added noise.
        rate: Rate of the added noise.
        estimate: Estimate of the labels with the added noise.
    """

    recipe: str
    rate: float
    estimate: Estimate


def estimate(labels: NDArray[np.int64], probabilities: Probabilities) -> Estimate:
    """Estimate how many labels are wrong, and find those that look wrong.

    Source: Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, Journal of
    Artificial Intelligence Research 70, 2021, using the package ``cleanlab``: the calibrated confident joint, and
    pruning by noise rate. The surest utterances are anchor points (Liu and Tao, IEEE Trans. PAMI 38, 2016): where the
    recogniser is confident and correct, a label that differs is noise. This assumes that noise depends only on the
    class.

    Args:
        labels: (N,) class indices 0…C−1, as given.
        probabilities: (N, C) predictions by recognisers that were not trained on the utterance; rows sum to 1.

    Raises:
        UserError: If all labels are the same.
    """
    if len(np.unique(labels)) < 2:
        raise UserError(
            "all utterances have the same label, so no label can be found wrong. At least two classes are needed."
        )
    joint = np.asarray(estimate_joint(labels, probabilities), dtype=float).T  # cleanlab's is given × true
    guess, own = probabilities.argmax(axis=1), probabilities[np.arange(len(labels)), labels]
    with warnings.catch_warnings():
        # cleanlab warns that it flags no utterance of a class with one; documented in Estimate.
        warnings.simplefilter("ignore", UserWarning)
        wrong = np.flatnonzero(find_label_issues(labels, probabilities, n_jobs=1))
    order = wrong[np.argsort(own[wrong], kind="stable")]
    count = max(1, round(SUREST * len(labels)))
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")[:count]
    share = float((guess[surest] != labels[surest]).mean())
    return Estimate(
        uar=scores(probabilities, labels)["uar"],
        uar_error=_uar_error(guess, labels),
        rate=max(0.0, float(1 - joint.trace())),
        surest_rate=share,
        # Of a binomial with one more of each outcome, so that it is not 0 where none or all differ.
        surest_error=math.sqrt((share * count + 1) * ((1 - share) * count + 1) / (count + 2) ** 3),
        surest=count,
        joint=joint,
        suspicious=order,
        likely=guess[order],
        score=own[order],
    )


def nearest_level(rate: float) -> str:
    """Return the named level with the nearest noise rate, the lower of two at the same distance."""
    return min(LEVELS, key=lambda level: abs(LEVELS[level] - rate))


def conclusion(given: Estimate, classes: int) -> str:
    """Describe the levels nearest to the estimates in a sentence; name none if the recogniser may be guessing.

    Args:
        given: Estimate of the given labels.
        classes: Number of classes.
    """
    if given.uar - 1 / classes <= 2 * given.uar_error:
        return (
            f"No level is named: with a UAR of {given.uar:.2f} on these labels the recogniser may be guessing. It is "
            "too weak, there are too few utterances, or the labels are very noisy."
        )
    surest, joint = nearest_level(given.surest_rate), nearest_level(given.rate)
    if surest == joint:
        return f"Both estimates are nearest to level {joint} ({LEVELS[joint]:.2%})."
    return (
        f"The surest tenth is nearest to level {surest} ({LEVELS[surest]:.2%}), "
        f"confident learning to {joint} ({LEVELS[joint]:.2%}); treat these as a range."
    )


def known_truth(corpus: Corpus, given: Estimate) -> dict[str, float | int | None] | None:
    """Compare the labels with the corpus's true labels.

    Args:
        corpus: N utterances.
        given: Estimate of the given labels.

    Returns:
        ``known`` (utterances with a true label), ``rate`` (of wrong labels among them), ``suspicious_wrong`` (share of
        the suspicious labels that are wrong; None if there are none); or None without true labels.
    """
    if "true_label" not in corpus.table:
        return None
    truth = corpus.class_indices(corpus.table["true_label"])
    wrong, known = corpus.labels != truth, truth >= 0
    if not known.any():
        return None
    found = wrong[given.suspicious][known[given.suspicious]]
    return {
        "known": int(known.sum()),
        "rate": float(wrong[known].mean()),
        "suspicious_wrong": float(found.mean()) if len(found) else None,
    }


def statistics(store: FeatureStore, speakers: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
    """Compute each utterance's log-mel statistics over time, standardised by speaker.

    The statistics are mean, standard deviation, quantiles and mean absolute difference of successive frames.
    Standardising by the mean and deviation of each speaker's utterances, which uses no labels, removes voice and
    channel.

    Args:
        store: N utterances of M mel bins.
        speakers: N names.
        progress: Called as (utterances done, total).

    Returns:
        (N, M · 6).
    """
    rows = []
    for row in range(len(store)):
        frames = np.asarray(store.utterance(row), dtype=np.float64)
        steps = np.abs(np.diff(frames, axis=0)).mean(axis=0) if len(frames) > 1 else np.zeros(frames.shape[1])
        quantiles = np.quantile(frames, QUANTILES, axis=0)
        rows.append(np.concatenate([frames.mean(axis=0), frames.std(axis=0), *quantiles, steps]))
        if progress is not None:
            progress(row + 1, len(store))
    table = np.array(rows)
    names, speaker, counts = np.unique(np.array(speakers, dtype=object), return_inverse=True, return_counts=True)
    group = np.where(counts[speaker] < MIN_UTTERANCES, len(names), speaker)
    for index in np.unique(group):
        members = group == index
        deviation = table[members].std(axis=0)
        table[members] = (table[members] - table[members].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return table


def speaker_groups(corpus: Corpus) -> NDArray[np.int64]:
    """Return (N,) the index of each utterance's speaker group, as in ``ser.splits.fold_groups``.

    Raises:
        UserError: If there are fewer than three speakers.
    """
    _, groups = fold_groups(corpus)
    group_of = {speaker: index for index, group in enumerate(groups) for speaker in group}
    return np.array([group_of[speaker] for speaker in corpus.table["speaker"]], dtype=np.int64)


def out_of_sample(
    features: NDArray[np.float64], labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int
) -> Probabilities:
    """Predict each group with a multinomial logistic regression that was trained on the other groups.

    Args:
        features: (N, D).
        labels: (N,) class indices 0…C−1.
        groups: (N,) group of each utterance's speaker, at least two groups.
        classes: C.

    Returns:
        (N, C), rows sum to 1; 0 for a class that the other groups lack.
    """
    probabilities = np.zeros((len(labels), classes))
    for group in np.unique(groups):
        held = groups == group
        known = np.unique(labels[~held])
        if len(known) == 1:
            probabilities[held, known[0]] = 1.0
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=1000))
        model.fit(features[~held], labels[~held])
        probabilities[np.ix_(held, known)] = model.predict_proba(features[held])
    return probabilities


def with_added_noise(
    corpus: Corpus, features: NDArray[np.float64], groups: NDArray[np.int64], seed: int
) -> Iterator[AddedNoise]:
    """Estimate the label noise again after adding known noise at the rates of ``noisy-A`` and ``noisy-B``.

    The noise is confusion-matrix noise (CREMA-D listeners) where the classes are CREMA-D's, else symmetric.
    Votes are not used, because where the labels are noisy already, a dissenting vote may be for the true one.

    Args:
        corpus: N utterances.
        features: (N, D).
        groups: As for ``out_of_sample``.
        seed: Seed of the noise draw.

    Yields:
        The estimate for each rate.
    """
    recipe = "human"
    try:
        human(corpus)
    except UserError:
        recipe = "symmetric"
    for rate, _ in NAMED_RATES.values():
        labels = corpus.class_indices(corrupt(corpus, recipe, rate, seed).labels)
        yield AddedNoise(recipe, rate, estimate(labels, out_of_sample(features, labels, groups, len(corpus.classes))))


def read_predictions(path: Path, corpus: Corpus) -> Probabilities:
    """Read out-of-sample predictions from a file.

    Args:
        path: CSV file with the column ``utterance_id`` and one for each class; one line per utterance, whose
            probabilities sum to 1 (to .001). Other columns are ignored.
        corpus: N utterances.

    Returns:
        (N, C) in the order of the corpus's table and classes.

    Raises:
        UserError: If the file cannot be read.
        DataErrors: If columns, utterances or probabilities are missing or wrong; lists all of them.
    """
    position = {id_: row for row, id_ in enumerate(corpus.table["utterance_id"])}
    probabilities = np.full((len(corpus), len(corpus.classes)), np.nan)
    seen: dict[str, int] = {}
    faults: list[tuple[str, str]] = []
    for number, cells in read_csv_rows(path, ("utterance_id", *corpus.classes)):
        id_ = cells.get("utterance_id", "")
        if id_ not in position:
            faults.append((f"line {number}", f"utterance {shown(id_)} is not in corpus {corpus.name!r}"))
        elif id_ in seen:
            faults.append((id_, f"is in lines {seen[id_]} and {number}"))
        else:
            seen[id_] = number
            try:
                if "" in cells:
                    raise ValueError("the line has more cells than there are columns")
                probabilities[position[id_]] = _distribution([cells.get(name, "") for name in corpus.classes])
            except ValueError as error:
                faults.append((id_, str(error)))
    faults += [(id_, "has no line") for id_ in position if id_ not in seen]
    if faults:
        advice = (
            f"Expected: utterance_id,{','.join(corpus.classes)}, and one line for each of {len(corpus)} utterances."
        )
        raise DataErrors(f"predictions {path}", faults, advice)
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


def ceiling(corpus: Corpus) -> HumanCeiling | None:
    """Compute the human ceiling of a corpus; None without votes.

    Args:
        corpus: Corpus with annotations, or else with counts of votes.
    """
    if corpus.annotations is not None:
        said = corpus.annotations[~corpus.annotations["is_self"].astype(bool)]
        found = human_ceiling(said, corpus.classes)
    else:
        voted = corpus.table["votes"].notna().to_numpy()
        if not voted.any():
            return None
        votes = np.array(corpus.table["votes"][voted].tolist(), dtype=np.int64)
        # Numbers as class names, so that none is equal to the name of votes outside the class set.
        numbers = [str(index) for index in range(len(corpus.classes))]
        ids = corpus.table["utterance_id"][voted].tolist()
        found = human_ceiling(anonymous_annotations(ids, votes, numbers, corpus.other_votes[voted]), numbers)
        found = replace(found, recall=dict(zip(corpus.classes, found.recall.values(), strict=True)))
    return found if found.pairs else None


def _uar_error(guess: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Compute the standard error of the UAR, each class's recall being a binomial share."""
    hits = [guess[labels == index] == index for index in np.unique(labels)]
    return math.sqrt(sum(float(hit.var()) / len(hit) for hit in hits)) / len(hits)


def _distribution(cells: Sequence[str]) -> list[float]:
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        raise ValueError(f"probabilities {', '.join(map(repr, cells))} are not {len(cells)} numbers") from None
    if not all(0 <= value <= 1 for value in values):  # false for NaN as well
        raise ValueError(f"probabilities {values} are not all between 0 and 1")
    if abs(sum(values) - 1) > SUM_TOLERANCE:
        raise ValueError(f"probabilities sum to {sum(values):.6g}, not to 1")
    return values
