"""Data of one training run: rows of the feature store, noisy labels, and the true labels to score against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ser.metrics.absent_classes import NOISY, TEST, TRAIN, VALIDATION, absent_classes
from ser.utils.errors import UserError

if TYPE_CHECKING:
    from ser.corpora.corpus import Corpus
    from ser.labels import LabelKind
    from ser.splits import Fold
    from ser.training.other_corpora import OtherTest


@dataclass(frozen=True)
class Subset:
    """Utterances of one subset of a fold: train, validation or test.

    Args:
        rows: (n,) positions in the feature store.
        utterance_ids: n names.
        noisy: (n,) noisy class indices, the labels that training and selection use.
        truth: (n,) true class indices, −1 where unknown.
        soft: (n, C) annotators' distribution, or None without votes.
        speakers: n names.
        genders: n values ``female``, ``male`` or ``unknown``.
        agreement: n strata of annotator agreement out of ``ser.metrics.agreement.STRATA``; None without votes.
        targets: (n, C) distributions that every loss trains on instead of ``noisy``; None for ``noisy`` itself.
    """

    rows: NDArray[np.int64]
    utterance_ids: tuple[str, ...]
    noisy: NDArray[np.int64]
    truth: NDArray[np.int64]
    soft: NDArray[np.float64] | None
    speakers: tuple[str, ...]
    genders: tuple[str, ...]
    agreement: tuple[str, ...] | None = None
    targets: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: NDArray[np.int64]) -> Subset:
        """Return some of the utterances.

        Args:
            positions: (k,) positions 0…n−1 in the order of the result, possibly repeated.
        """

        def some(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[position] for position in positions)

        return Subset(
            self.rows[positions],
            some(self.utterance_ids),
            self.noisy[positions],
            self.truth[positions],
            None if self.soft is None else self.soft[positions],
            some(self.speakers),
            some(self.genders),
            None if self.agreement is None else some(self.agreement),
            None if self.targets is None else self.targets[positions],
        )


@dataclass(frozen=True)
class Task:
    """Train and validation data of one fold at one noise level; test data only in a confirmation.

    Args:
        classes: C class names.
        store: Folder of the feature store.
        train: Training utterances.
        validation: Validation utterances, with labels of the same kind, corrupted at the same rate.
        manifest: Noise manifest.
        test: Test utterances, to be scored after the last epoch of a confirmation; None in a search.
        others: Tests on other corpora after the last epoch.
    """

    classes: tuple[str, ...]
    store: Path
    train: Subset
    validation: Subset
    manifest: dict[str, Any]
    test: Subset | None = None
    others: tuple[OtherTest, ...] = ()

    @property
    def absent(self) -> dict[str, list[str]]:
        """Return the classes that subsets lack, as ``ser.metrics.absent_classes`` reads them."""
        labels = {TRAIN: self.train.noisy, VALIDATION: self.validation.truth, NOISY: self.validation.noisy}
        return absent_classes(self.classes, labels if self.test is None else {**labels, TEST: self.test.truth})


def make_task(
    corpus: Corpus,
    fold: Fold,
    store: Path,
    level: str,
    noise_seed: int,
    *,
    labels: LabelKind = "consensus",
    with_test: bool = False,
) -> Task:
    """Make the train and validation labels of a fold, each from their own rows alone, and return them as a task.

    Args:
        corpus: Corpus whose features are in ``store``.
        fold: One of its folds.
        store: Folder of the feature store.
        level: Noise level, such as ``"noisy-A"`` or ``"symmetric:0.3"``.
        noise_seed: Seed of the noise.
        labels: Kind of labels to train and select on; the corpus's label is the truth for all of them.
        with_test: Include the test rows, whose labels are never corrupted.

    Raises:
        UserError: The corpus does not support the level or the kind of labels, or all training labels are of one
            class.
    """
    # Imported here because pandas is needed to make a task and not to train on one.
    from ser.labels.training_labels import training_labels
    from ser.metrics.agreement import soft_labels, strata

    rows = {"train": fold.train, "validation": fold.validation}
    drawn = training_labels(corpus, labels, level, noise_seed, rows)
    noisy, truth = corpus.class_indices(drawn.labels), corpus.class_indices(drawn.truth)
    if len(np.unique(noisy[fold.train])) < 2:
        raise UserError(
            f"fold {fold.number} of corpus {corpus.name!r} at noise level {level!r}: all {len(fold.train)} training "
            f"labels ({labels}) are of one class, and at least two are needed. Choose another --fold or noise level."
        )
    about = [corpus.table[column].to_numpy() for column in ("utterance_id", "speaker", "gender")]
    votes = corpus.votes

    def subset(positions: NDArray[np.int64]) -> Subset:
        soft = agreement = None
        if votes is not None:
            soft = soft_labels(votes[positions])
            agreement = tuple(strata(votes[positions], corpus.other_votes[positions]))
        ids, speakers, genders = (tuple(column[positions]) for column in about)
        targets = None if drawn.targets is None else drawn.targets[positions]
        return Subset(positions, ids, noisy[positions], truth[positions], soft, speakers, genders, agreement, targets)

    test = subset(fold.test) if with_test else None
    return Task(corpus.classes, store, subset(fold.train), subset(fold.validation), drawn.manifest, test)
