"""Individual votes of named annotators on some utterances of a corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.corpora.corpus import ANNOTATION_COLUMNS, Corpus
from ser.utils.errors import DataErrors, UserError
from ser.utils.hashing import digest

ADVICE = "Use --labels plurality or soft, which need only the number of votes for each class."


@dataclass(frozen=True, eq=False)
class Judgements:
    """Judgements of named annotators: each says that one annotator named one class for one utterance.

    Args:
        utterance: (J,) positions 0…N−1 of the utterances.
        annotator: (J,) positions 0…A−1 of the annotators.
        label: (J,) class indices.
        annotators: The A names, sorted.
        outside: Number of judgements left out because they name a category outside the classes.
    """

    utterance: NDArray[np.int64]
    annotator: NDArray[np.int64]
    label: NDArray[np.int64]
    annotators: tuple[str, ...]
    outside: int = 0


def judgements_of(corpus: Corpus, rows: NDArray[np.int64]) -> Judgements:
    """Return the judgements on some utterances of a corpus.

    As in ``Corpus.votes``, self-evaluations do not count, an annotator who names two classes votes for both, and naming
    a class twice is one vote. Categories outside the classes are ignored and counted, because every utterance has a
    label of the classes.

    Args:
        corpus: Corpus with individual votes.
        rows: (N,) positions in its table.

    Raises:
        UserError: The corpus has no individual votes, or votes of these utterances are anonymous.
        DataErrors: An utterance has no vote for a class.
    """
    if corpus.annotations is None:
        raise UserError(
            f"--labels dawid_skene: corpus {corpus.name!r} has no individual votes, from which the errors of each "
            f"annotator are estimated. {ADVICE}"
        )
    ids = corpus.table["utterance_id"].to_numpy()[rows]
    position = {name: place for place, name in enumerate(ids)}
    said: pd.DataFrame = corpus.annotations
    said = said[said["utterance_id"].isin(position) & ~said["is_self"].astype(bool)]
    if anonymous := int(said["annotator"].isna().sum()):
        raise UserError(
            f"--labels dawid_skene: {anonymous:,} of {len(said):,} votes of corpus {corpus.name!r} are anonymous, so "
            f"the errors of each annotator cannot be estimated. {ADVICE}"
        )
    said = said.drop_duplicates(["utterance_id", "annotator", "label"])
    of_class = said["label"].isin(corpus.classes)
    outside, said = int((~of_class).sum()), said[of_class]
    label = corpus.class_indices(said["label"])
    utterance = said["utterance_id"].map(position).to_numpy(dtype=np.int64)
    if len(missing := np.setdiff1d(np.arange(len(ids)), utterance)):
        raise DataErrors(
            f"--labels dawid_skene, corpus {corpus.name!r}",
            [(ids[place], "no annotator named one of the classes") for place in missing],
            f"Leave these utterances out with --exclude FILE. {ADVICE}",
        )
    annotators, annotator = np.unique(said["annotator"].astype(str).to_numpy(dtype=object), return_inverse=True)
    return Judgements(utterance, annotator.astype(np.int64), label, tuple(annotators), outside)


def votes_digest(corpus: Corpus) -> str:
    """Return a digest of the individual votes, which ``Corpus.digest`` does not cover; it is equal on every machine."""
    if corpus.annotations is None:
        return digest([])
    columns = (corpus.annotations[name].astype(str) for name in ANNOTATION_COLUMNS)
    return digest(sorted(zip(*columns, strict=True)))
