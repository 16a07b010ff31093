"""How noisy labels of unknown quality look: confident learning, and what a recogniser is surest of.

Neither reading is the noise rate. Both compare the labels with a recogniser that was trained on other speakers'
labels of the same corpus, and it errs too. docs/noise.md has what they read where the noise was known.
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
from ser.corpora.source_files import csv_rows
from ser.features.store import FeatureStore
from ser.metrics.agreement import HumanCeiling, anonymous_annotations, human_ceiling
from ser.metrics.classification import scores
from ser.noise.corruption import NAMED_RATES, corrupt
from ser.noise.listeners import human_transition
from ser.splits import fold_groups
from ser.utils.errors import DataErrors, UserError

LEVELS = {"clean": 0.0, **{name: rate for name, (rate, _) in NAMED_RATES.items()}}
"""Level → noise rate."""

SUREST = 0.1
"""Share of the utterances that counts as surest."""

QUANTILES = (0.1, 0.5, 0.9)
FEWEST = 10
"""Speakers with fewer utterances than this are standardised together."""
PENALTY = 0.01
"""C of the logistic regression: weights have a prior variance of .01, so that the logits of some 400 standardised
statistics have a prior standard deviation of 2, whatever the size of the corpus."""

SUM_TOLERANCE = 1e-3

MEASURED = (
    "How far off that was where the noise was known, on synthetic and RAVDESS: at clean, noisy-A and noisy-B the "
    "surest tenth read 10 points too low to 14 too high, and its nearest level was right in 18 of 22 draws, else too "
    "high; confident learning read 4 to 33 points too high, and its level was right in 11. Where labels become wrong "
    "that the recogniser finds ambiguous, as annotators may err, the surest tenth read 15 to 27 points too low at "
    "noisy-A, confident learning 8 too low to 5 too high. The weaker the recogniser, the higher both read."
)
"""How far off the readings are; the table is in docs/noise.md."""

Probabilities = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Estimate:
    """What out-of-sample predictions say of the labels.

    Args:
        uar: The recogniser's unweighted average recall against the labels as they are, 0 to 1.
        uar_error: Its standard error, over utterances.
        rate: Share of wrong labels by confident learning: what is off the diagonal of the estimated joint
            distribution of given and true label.
        surest_rate: Of the ``surest`` utterances whose prediction is surest, the share with another label.
        surest_error: Its standard error.
        surest: How many these are.
        joint: (C, C) estimated share of all utterances with that true and that given label, true × given.
        suspicious: (K,) rows whose labels look wrong, the most suspicious first; never the only one of its class.
        likely: (K,) class indices that they look like.
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
        """(C, C) true × noisy: the joint by rows that sum to 1; zeros for a class without utterances."""
        totals = self.joint.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(self.joint, totals, out=np.zeros_like(self.joint), where=totals > 0))


@dataclass(frozen=True)
class Added:
    """The readings after noise was put on top of the labels.

    Args:
        recipe: Of the noise.
        rate: That was added.
        estimate: Of the labels with it.
    """

    recipe: str
    rate: float
    estimate: Estimate


def estimate(labels: NDArray[np.int64], probabilities: Probabilities) -> Estimate:
    """Reads how many labels look wrong, and which.

    Source: Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, Journal of
    Artificial Intelligence Research 70, 2021, by the package ``cleanlab``: the calibrated confident joint, and
    pruning by noise rate. The surest utterances are anchor points (Liu and Tao, IEEE Trans. PAMI 38, 2016): where
    the recogniser is sure and right, a label that differs is noise. That takes noise to depend on the class alone.

    Args:
        labels: (N,) class indices 0…C−1, as given.
        probabilities: (N, C) predictions by recognisers that have not seen the utterance; rows sum to 1.

    Raises:
        UserError: All labels are the same.
    """
    if len(np.unique(labels)) < 2:
        raise UserError("all utterances have the same label, so nothing tells a wrong one.")
    joint = np.asarray(estimate_joint(labels, probabilities), dtype=float).T  # cleanlab's is given × true
    guess, own = probabilities.argmax(axis=1), probabilities[np.arange(len(labels)), labels]
    with warnings.catch_warnings():
        # That a class with one utterance has none flagged: said in Estimate.
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
        # Of the mean of a binomial with one more of each outcome, which is not 0 where none or all differ.
        surest_error=math.sqrt((share * count + 1) * ((1 - share) * count + 1) / (count + 2) ** 3),
        surest=count,
        joint=joint,
        suspicious=order,
        likely=guess[order],
        score=own[order],
    )


def nearest_level(rate: float) -> str:
    """The named level whose noise rate is nearest; the lower of two as near."""
    return min(LEVELS, key=lambda level: abs(LEVELS[level] - rate))


def conclusion(given: Estimate, classes: int) -> str:
    """The levels that are nearest to the readings, in a sentence; none for a recogniser that may be guessing.

    Args:
        given: Of the labels as they are.
        classes: C.
    """
    if given.uar - 1 / classes <= 2 * given.uar_error:
        return (
            f"No level is named: with a UAR of {given.uar:.2f} on these labels the recogniser may be guessing. It is "
            "too weak, the utterances are too few, or the labels are very noisy."
        )
    surest, joint = nearest_level(given.surest_rate), nearest_level(given.rate)
    if surest == joint:
        return f"Both readings are nearest to level {joint} ({LEVELS[joint]:.2%})."
    return (
        f"The surest tenth is nearest to level {surest} ({LEVELS[surest]:.2%}), "
        f"confident learning to {joint} ({LEVELS[joint]:.2%}); take these for a range."
    )


def known_truth(corpus: Corpus, given: Estimate) -> dict[str, float | int | None] | None:
    """What the true labels say, where the corpus has some.

    Returns:
        ``known`` (utterances), ``rate`` (of wrong labels among them), ``suspicious_wrong`` (share of the suspicious
        labels that are wrong; None without any); or None without a true label.
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
    """Each utterance's log-mel over time: mean, deviation, quantiles and mean absolute step, standardised by speaker.

    A speaker's utterances, labels unseen, give the mean and deviation that they are standardised by, so that the voice
    and the channel do not pass for emotion.

    Args:
        store: N utterances of M mel bins.
        speakers: N names.
        progress: Called as (utterances done, utterances in all).

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
    group = np.where(counts[speaker] < FEWEST, len(names), speaker)
    for index in np.unique(group):
        members = group == index
        deviation = table[members].std(axis=0)
        table[members] = (table[members] - table[members].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return table


def held_out(corpus: Corpus) -> NDArray[np.int64]:
    """(N,) which of ``fold_groups``' groups each utterance's speaker is in.

    Raises:
        UserError: Fewer than three speakers.
    """
    _, groups = fold_groups(corpus)
    group_of = {speaker: index for index, group in enumerate(groups) for speaker in group}
    return np.array([group_of[speaker] for speaker in corpus.table["speaker"]], dtype=np.int64)


def out_of_sample(
    features: NDArray[np.float64], labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int
) -> Probabilities:
    """Predictions for each group by a multinomial logistic regression that was trained on the other groups.

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
) -> Iterator[Added]:
    """The readings after ``noisy-A``'s and ``noisy-B``'s rates of known noise on top of the corpus's labels.

    It is listeners' confusion where the class names are known emotions, else symmetric. Votes are not used: where
    the labels are noisy already, a dissenting vote may be for the true one.

    Args:
        corpus: N utterances.
        features: (N, D).
        groups: As for ``out_of_sample``.
        seed: Of the noise draw.
    """
    recipe = "human"
    try:
        human_transition(corpus.classes)
    except UserError:
        recipe = "symmetric"
    for rate, _ in NAMED_RATES.values():
        labels = corpus.class_indices(corrupt(corpus, recipe, rate, seed).labels)
        yield Added(recipe, rate, estimate(labels, out_of_sample(features, labels, groups, len(corpus.classes))))


def read_predictions(path: Path, corpus: Corpus) -> Probabilities:
    """Out-of-sample predictions from a file.

    Args:
        path: CSV with the column ``utterance_id`` and one for each class; a line for each utterance, whose
            probabilities sum to 1 (to .001). Other columns are ignored.
        corpus: N utterances.

    Returns:
        (N, C) in the order of the corpus's table and classes.

    Raises:
        UserError: The file cannot be read.
        DataErrors: Columns, utterances or probabilities that are missing or wrong; all are listed.
    """
    position = {id_: row for row, id_ in enumerate(corpus.table["utterance_id"])}
    probabilities = np.full((len(corpus), len(corpus.classes)), np.nan)
    seen: dict[str, int] = {}
    faults: list[tuple[str, str]] = []
    for number, cells in csv_rows(path, ("utterance_id", *corpus.classes)):
        id_ = cells.get("utterance_id", "")
        if id_ not in position:
            faults.append((f"line {number}", f"utterance {id_!r} is not in corpus {corpus.name!r}"))
        elif id_ in seen:
            faults.append((id_, f"is in line {number} as well as in line {seen[id_]}"))
        else:
            seen[id_] = number
            try:
                if "" in cells:
                    raise ValueError("has more cells than there are columns")
                probabilities[position[id_]] = _distribution([cells.get(name, "") for name in corpus.classes])
            except ValueError as error:
                faults.append((id_, str(error)))
    faults += [(id_, "has no line") for id_ in position if id_ not in seen]
    if faults:
        advice = f"Expected: utterance_id,{','.join(corpus.classes)}, and a line for each of {len(corpus)} utterances."
        raise DataErrors(f"predictions {path}", faults, advice)
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


def ceiling(corpus: Corpus) -> HumanCeiling | None:
    """What one annotator scores against the others, or None where there are no votes to tell.

    Args:
        corpus: Its annotations are used where it has them, else the counts of its votes.
    """
    if corpus.annotations is not None:
        said = corpus.annotations[~corpus.annotations["is_self"].astype(bool)]
        found = human_ceiling(said, corpus.classes)
    else:
        voted = corpus.table["votes"].notna().to_numpy()
        if not voted.any():
            return None
        votes = np.array(corpus.table["votes"][voted].tolist(), dtype=np.int64)
        # Numbers for the classes, none of which can then be taken for what is outside of them.
        numbers = [str(index) for index in range(len(corpus.classes))]
        ids = corpus.table["utterance_id"][voted].tolist()
        found = human_ceiling(anonymous_annotations(ids, votes, numbers, corpus.other_votes[voted]), numbers)
        found = replace(found, recall=dict(zip(corpus.classes, found.recall.values(), strict=True)))
    return found if found.pairs else None


def _uar_error(guess: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Each class's recall is a binomial share."""
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
