"""Folds whose train, validation and test rows share no speaker and no recording."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ser.corpora.corpus import EXCLUDE_ADVICE, Corpus
from ser.utils.errors import DataErrors, UserError
from ser.utils.hashing import hashed_uniform

MAX_FOLDS = 8
SUBSETS = ("train", "validation", "test")
RANDOM_SHARE = 0.2

SplitBy = Literal["auto", "session", "speaker"]
Validation = Literal["held-out", "random"]


@dataclass(frozen=True)
class Fold:
    """One fold of a corpus.

    Args:
        number: From 1 to ``count``.
        count: Folds of the corpus.
        unit: What is held out: ``"session"``, ``"speaker"`` or ``"speaker group"``.
        train: Row positions in the corpus's table, ascending.
        validation: Row positions; they choose configurations.
        test: Row positions; out of reach of a search.
        shared_speakers: Whether validation speakers may be training speakers.
    """

    number: int
    count: int
    unit: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    shared_speakers: bool = False

    @property
    def subsets(self) -> dict[str, NDArray[np.int64]]:
        """Row positions of each subset."""
        return {subset: getattr(self, subset) for subset in SUBSETS}

    @property
    def warning(self) -> str:
        """What the reader of a result must know of this kind of split, or nothing."""
        if not self.shared_speakers:
            return ""
        return (
            "Validation is a random fifth of the rows: its speakers are those of training, so its scores are too good, "
            "and configurations are chosen by how well known voices are recognised. Test speakers are apart."
        )


def fold_groups(corpus: Corpus, by: SplitBy = "auto") -> tuple[str, list[tuple[str, ...]]]:
    """Groups of speakers that are held out together.

    Args:
        corpus: Any corpus.
        by: ``session``: each session (IEMOCAP's five); ``speaker``: each speaker; ``auto``: sessions where the corpus
            has at least three and no speaker is in two of them, otherwise the sorted speakers, cut into at most
            ``MAX_FOLDS`` groups of neighbours.

    Returns:
        What a group is, and the speakers of each group.

    Raises:
        UserError: Fewer than three groups, so that no three disjoint subsets exist, or sessions that cannot be held out.
    """
    table = corpus.table
    speakers = sorted(set(table["speaker"]))
    if len(speakers) < 3:
        raise UserError(
            f"corpus {corpus.name!r} has {len(speakers)} speaker(s); train, validation and test need at least three."
        )
    if by == "speaker":
        return "speaker", [(speaker,) for speaker in speakers]
    pairs = table[["session", "speaker"]].drop_duplicates()
    sessions = sorted(set(table["session"]) - {""})
    obstacle = ""
    if "" in set(table["session"]):
        obstacle = f"{int((table['session'] == '').sum())} of {len(table)} utterances have no session"
    elif not pairs["speaker"].is_unique:
        twice = sorted(pairs["speaker"][pairs["speaker"].duplicated()])
        obstacle = f"speakers are in more than one session ({', '.join(twice[:5])})"
    elif len(sessions) < 3:
        obstacle = f"there are {len(sessions)}, and train, validation and test need three"
    if not obstacle:
        return "session", [tuple(sorted(pairs["speaker"][pairs["session"] == name])) for name in sessions]
    if by == "session":
        raise UserError(
            f"corpus {corpus.name!r} cannot be split by session: {obstacle}. Take --split-by speaker, or auto."
        )
    groups = np.array_split(np.array(speakers, dtype=object), min(MAX_FOLDS, len(speakers)))
    return "speaker group", [tuple(group) for group in groups]


def split(corpus: Corpus, fold: int | None = None, by: SplitBy = "auto", validation: Validation = "held-out") -> Fold:
    """Fold ``i`` tests on group ``i``; part of the rest validates, and all else trains.

    Args:
        corpus: Any corpus with at least three speakers.
        fold: 1 to the number of groups; None is the last (IEMOCAP: Session 5, as in the literature).
        by: As for ``fold_groups``.
        validation: ``held-out``: the group before the tested one, cyclically; of single speakers the next of the same
            session where there is one, since partners share their dialogues. ``random``: a fifth of the rows that are
            not tested, recordings by a hash of their names, whoever speaks; it is what much of the literature
            does, and it leaks speakers.

    Returns:
        The split, checked by ``check_disjoint``.

    Raises:
        UserError: No such fold, groups that do not exist, or a speaker or recording in two subsets.
    """
    unit, groups = fold_groups(corpus, by)
    fold = len(groups) if fold is None else fold
    if not 1 <= fold <= len(groups):
        raise UserError(f"fold {fold} does not exist: corpus {corpus.name!r} has folds 1 to {len(groups)}.")
    group_of = {speaker: index for index, group in enumerate(groups) for speaker in group}
    group = np.array([group_of[speaker] for speaker in corpus.table["speaker"]], dtype=np.int64)
    tested = group == fold - 1
    if validation == "random":
        validating = _random_fifth(corpus, ~tested)
    elif unit == "speaker":
        validating = group == _partner(corpus, [name for (name,) in groups], fold - 1)
    else:
        validating = group == (fold - 2) % len(groups)
    result = Fold(
        fold,
        len(groups),
        unit,
        np.flatnonzero(~tested & ~validating),
        np.flatnonzero(validating),
        np.flatnonzero(tested),
        validation == "random",
    )
    check_disjoint(corpus, result)
    return result


def _partner(corpus: Corpus, speakers: Sequence[str], tested: int) -> int:
    """The next speaker of the tested one's session, cyclically; else the speaker before."""
    sessions = corpus.table.drop_duplicates("speaker").set_index("speaker")["session"]
    here = [
        index for index, name in enumerate(speakers) if sessions[name] and sessions[name] == sessions[speakers[tested]]
    ]
    if len(here) > 1:
        return here[(here.index(tested) + 1) % len(here)]
    return (tested - 1) % len(speakers)


def _random_fifth(corpus: Corpus, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whole recordings, in the order of their hashes, until a fifth of the rows is reached."""
    names = [path or id_ for path, id_ in zip(corpus.relative_paths, corpus.table["utterance_id"], strict=True)]
    order = hashed_uniform(0, "splits.validation", names)
    wanted, members = round(RANDOM_SHARE * int(among.sum())), np.zeros(len(corpus), dtype=bool)
    for value in np.unique(order[among]):
        if members.sum() >= wanted:
            break
        members |= among & (order == value)
    return members


def check_disjoint(corpus: Corpus, fold: Fold, content: ArrayLike | None = None) -> None:
    """Raises if a speaker or a recording is in two subsets.

    Args:
        corpus: The corpus that was split.
        fold: Its fold.
        content: (N,) digests of the decoded audio, as ``FeatureStore.content``; None leaves copies under other names
            undiscovered.

    Raises:
        DataErrors: A leak: all speakers, else all recordings, else all copies by content, that are in two subsets.
    """
    names = {"speaker": list(corpus.table["speaker"]), "path": corpus.relative_paths}
    pairs = (("train", "validation"), ("train", "test"), ("validation", "test"))
    for kind, name in names.items():
        members = {subset: {name[row] for row in rows} - {""} for subset, rows in fold.subsets.items()}
        faults = [
            (shared, f"{'speaker' if kind == 'speaker' else 'recording'} in both {first} and {second}")
            for first, second in pairs
            if not (kind == "speaker" and fold.shared_speakers and second == "validation")
            for shared in sorted(members[first] & members[second])
        ]
        if faults:
            advice = "Mend the corpus's speaker and session columns." if kind == "speaker" else EXCLUDE_ADVICE
            raise DataErrors(f"leak in fold {fold.number} of corpus {corpus.name!r}", faults, advice)
    if content is not None:
        _check_content(corpus, fold, np.asarray(content))


def _check_content(corpus: Corpus, fold: Fold, content: NDArray[np.str_]) -> None:
    part_of = {int(row): subset for subset, rows in fold.subsets.items() for row in rows}
    copies: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(content.tolist()):
        copies[digest].append(row)
    ids = corpus.table["utterance_id"]
    faults = [
        (ids[row], f"in {part_of[row]}, is the same recording as {ids[rows[0]]} in {part_of[rows[0]]}")
        for rows in copies.values()
        for row in rows[1:]
        if part_of[row] != part_of[rows[0]]
    ]
    if faults:
        raise DataErrors(
            f"leak in fold {fold.number} of corpus {corpus.name!r}: recordings with the same content in two parts",
            faults,
            EXCLUDE_ADVICE,
        )
