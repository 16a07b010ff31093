"""What one training run may see: features, noisy labels, and the truth to score against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser.corpora.corpus import Corpus
from ser.metrics.agreement import soft_labels, strata
from ser.noise import corrupt_level
from ser.splits import Fold
from ser.utils.errors import UserError


@dataclass(frozen=True)
class Subset:
    """The utterances of one part of a fold.

    Args:
        rows: (n,) positions in the feature store.
        utterance_ids: n names.
        noisy: (n,) class indices that training and realistic selection see.
        truth: (n,) true class indices, −1 where unknown.
        soft: (n, C) annotators' distribution, or None without votes.
        speakers: n names.
        genders: Each ``female``, ``male`` or ``unknown``.
        agreement: How far the annotators of each agree, out of ``ser.metrics.agreement.STRATA``; None without votes.
    """

    rows: NDArray[np.int64]
    utterance_ids: tuple[str, ...]
    noisy: NDArray[np.int64]
    truth: NDArray[np.int64]
    soft: NDArray[np.float64] | None
    speakers: tuple[str, ...]
    genders: tuple[str, ...]
    agreement: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: NDArray[np.int64]) -> Subset:
        """Some of the utterances.

        Args:
            positions: (k,) 0…n−1, in the order wanted; one may be there more than once.
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
        )


@dataclass(frozen=True)
class Task:
    """Train and validation data of one fold at one noise level; a test row only where one is to be scored at the end.

    Args:
        classes: The C class names.
        store: Folder of the feature store.
        train: Training utterances.
        validation: Validation utterances, corrupted at the same rate.
        manifest: The noise manifest.
        test: Test utterances, for the confirmation of what a search has chosen; a search has None.
    """

    classes: tuple[str, ...]
    store: Path
    train: Subset
    validation: Subset
    manifest: dict[str, Any]
    test: Subset | None = None


def make_task(corpus: Corpus, fold: Fold, store: Path, level: str, noise_seed: int, *, with_test: bool = False) -> Task:
    """Corrupts the train and validation rows of a fold.

    Args:
        corpus: The corpus whose features are in ``store``.
        parts: One of its splits.
        store: Folder of the feature store.
        level: Noise level, such as ``"noisy-A"`` or ``"symmetric:0.3"``.
        noise_seed: Seed of the noise draw.
        with_test: Hand over the test rows too, whose labels are never corrupted.

    Raises:
        UserError: The level cannot be had from this corpus, or the training labels are all of one class.
    """
    rows = {"train": fold.train, "validation": fold.validation}
    drawn = corrupt_level(corpus, level, noise_seed, rows)
    noisy, truth = corpus.class_indices(drawn.labels), corpus.class_indices(drawn.truth)
    if len(np.unique(noisy[fold.train])) < 2:
        raise UserError(
            f"fold {fold.number} of corpus {corpus.name!r} at noise level {level!r}: the {len(fold.train)} training "
            "labels are all of one class, so there is nothing to learn."
        )
    about = [corpus.table[column].to_numpy() for column in ("utterance_id", "speaker", "gender")]
    votes = corpus.votes

    def part(positions: NDArray[np.int64]) -> Subset:
        soft = agreement = None
        if votes is not None:
            soft = soft_labels(votes[positions])
            agreement = tuple(strata(votes[positions], corpus.other_votes[positions]))
        ids, speakers, genders = (tuple(column[positions]) for column in about)
        return Subset(positions, ids, noisy[positions], truth[positions], soft, speakers, genders, agreement)

    test = part(fold.test) if with_test else None
    return Task(corpus.classes, store, part(fold.train), part(fold.validation), drawn.manifest, test)
