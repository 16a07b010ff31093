"""Folds whose train, validation and test rows share no speaker and no recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser.corpora.corpus import Corpus
from ser.errors import UserError

MAX_FOLDS = 8
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One fold of a corpus.

    Args:
        fold: From 1 to ``folds``.
        folds: How many the corpus has.
        unit: What is held out: ``"session"`` or ``"speaker group"``.
        train: Row positions in the corpus's table, ascending.
        validation: Row positions; they choose configurations.
        test: Row positions; out of reach of a search.
    """

    fold: int
    folds: int
    unit: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Row positions by part."""
        return {part: getattr(self, part) for part in PARTS}


def fold_groups(corpus: Corpus) -> tuple[str, list[tuple[str, ...]]]:
    """Groups of speakers that are held out together.

    Sessions where the corpus has at least three and no speaker is in two of them (IEMOCAP's five); otherwise the
    sorted speakers, cut into at most ``MAX_FOLDS`` groups of neighbours.

    Args:
        corpus: Any corpus.

    Returns:
        What a group is, and the speakers of each group.

    Raises:
        UserError: Fewer than three speakers, so that no three disjoint parts exist.
    """
    table = corpus.table
    pairs = table[["session", "speaker"]].drop_duplicates()
    sessions = sorted(set(table["session"]) - {""})
    if len(sessions) >= 3 and "" not in set(table["session"]) and pairs["speaker"].is_unique:
        return "session", [tuple(sorted(pairs["speaker"][pairs["session"] == name])) for name in sessions]
    speakers = sorted(set(table["speaker"]))
    if len(speakers) < 3:
        raise UserError(
            f"corpus {corpus.name!r} has {len(speakers)} speaker(s); train, validation and test need at least three."
        )
    groups = np.array_split(np.array(speakers, dtype=object), min(MAX_FOLDS, len(speakers)))
    return "speaker group", [tuple(group) for group in groups]


def split(corpus: Corpus, fold: int | None = None) -> Split:
    """Fold ``i`` tests on group ``i``, validates on the group before it (cyclically) and trains on the rest.

    Args:
        corpus: Any corpus with at least three speakers.
        fold: 1 to the number of groups; None is the last (IEMOCAP: Session 5, as in the literature).

    Returns:
        The split, checked by ``check_disjoint``.

    Raises:
        UserError: No such fold, or a speaker or recording in two parts.
    """
    unit, groups = fold_groups(corpus)
    fold = len(groups) if fold is None else fold
    if not 1 <= fold <= len(groups):
        raise UserError(f"fold {fold} does not exist: corpus {corpus.name!r} has folds 1 to {len(groups)}.")
    group_of = {speaker: index for index, group in enumerate(groups) for speaker in group}
    group = np.array([group_of[speaker] for speaker in corpus.table["speaker"]], dtype=np.int64)
    test, validation = fold - 1, (fold - 2) % len(groups)
    result = Split(
        fold,
        len(groups),
        unit,
        np.flatnonzero((group != test) & (group != validation)),
        np.flatnonzero(group == validation),
        np.flatnonzero(group == test),
    )
    check_disjoint(corpus, result)
    return result


def check_disjoint(corpus: Corpus, parts: Split) -> None:
    """Raises if a speaker or a recording is in two parts.

    Args:
        corpus: The corpus that was split.
        parts: Its split.

    Raises:
        UserError: A leak, with the first speakers or recordings that leak.
    """
    for column, kind in (("speaker", "speakers"), ("path", "recordings")):
        members = {part: set(corpus.table[column].iloc[rows]) - {""} for part, rows in parts.parts.items()}
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if shared := sorted(members[first] & members[second]):
                raise UserError(
                    f"leak in fold {parts.fold} of corpus {corpus.name!r}: {len(shared)} {kind} in both {first} and "
                    f"{second}: {', '.join(shared[:5])}. Mend the corpus's speaker and session columns."
                )
