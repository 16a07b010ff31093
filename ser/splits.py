"""Folds of a corpus, whose train, validation and test subsets share no speaker and no recording."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ser.corpora.corpus import EXCLUDE_ADVICE, Corpus
from ser.speaker_groups import MAX_FOLDS, fold_groups_of, joined, speakers_of, validation_group
from ser.utils.errors import DataErrors, UserError
from ser.utils.hashing import digest, hashed_uniform

SUBSETS = ("train", "validation", "test")
RANDOM_SHARE = 0.2
OFFICIAL, GROUP, SESSIONS = "official split", "speaker group", "session group"

FORMER_AUTO = "auto-0.1"
"""Folds of what version 0.1 began by ``auto``: groups of neighbours by name; never a value that a user gives."""

SplitBy = Literal["auto", "official", "session", "speaker"]
Validation = Literal["held-out", "random"]


@dataclass(frozen=True)
class Fold:
    """Division of a corpus into train, validation and test subsets.

    Args:
        number: 1 to ``count``.
        count: Number of folds of the corpus.
        unit: What is held out: ``"session"``, ``"session group"``, ``"speaker"``, ``"speaker group"``, or
            ``"official split"``.
        train: Row positions in the corpus's table, ascending.
        validation: Row positions, for the choice of configurations.
        test: Row positions, which a search never reads.
        shared_speakers: Whether validation speakers may also be training speakers.
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
        """Return the row positions of each subset by its name."""
        return {subset: getattr(self, subset) for subset in SUBSETS}

    @property
    def warning(self) -> str:
        """Return what limits results on this kind of fold, or an empty string."""
        if not self.shared_speakers:
            return ""
        return (
            "Validation is a random fifth of the rows: its speakers are also training speakers, so its scores are too "
            "high, and configurations are chosen by how well known voices are recognised. Test speakers are separate."
        )


def fold_groups(corpus: Corpus, by: str = "auto") -> tuple[str, list[tuple[str, ...]]]:
    """Return the groups of speakers that are held out together.

    Args:
        corpus: Any corpus.
        by: ``session``: each session (IEMOCAP has five); ``speaker``: each speaker; ``auto``: sessions if there are
            at least three and no speaker is in two of them, of more than ``MAX_FOLDS`` groups that are alike;
            otherwise groups of speakers that are alike in classes and gender, at most ``MAX_FOLDS``
            (``ser.speaker_groups.fold_groups_of``).

    Returns:
        What a group is (``"session"``, ``"session group"``, ``"speaker"`` or ``"speaker group"``), and the speakers of
        each group.

    Raises:
        UserError: If there are fewer than three groups, or ``session`` is requested and sessions cannot be held out.

    Example:
        >>> from ser.corpora import load
        >>> unit, groups = fold_groups(load("synthetic"))
        >>> unit, len(groups), groups[0]
        ('session', 5, ('Ses01F', 'Ses01M'))
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
        obstacle = f"it has {len(sessions)} sessions, and train, validation and test need three"
    if not obstacle:
        members = {str(name): tuple(sorted(some)) for name, some in pairs.groupby("session")["speaker"]}
        if by in ("session", FORMER_AUTO) or len(sessions) <= MAX_FOLDS:
            return "session", [members[name] for name in sessions]
        return SESSIONS, joined(members, fold_groups_of(speakers_of(corpus, "session")))
    if by == "session":
        raise UserError(
            f"corpus {corpus.name!r} cannot be split by session: {obstacle}. Pass --split-by speaker, or auto."
        )
    if by == FORMER_AUTO:
        neighbours = np.array_split(np.array(speakers, dtype=object), min(MAX_FOLDS, len(speakers)))
        return GROUP, [tuple(group) for group in neighbours]
    return GROUP, list(fold_groups_of(speakers_of(corpus)))


def split(corpus: Corpus, fold: int | None = None, by: str = "auto", validation: Validation = "held-out") -> Fold:
    """Return one fold of a corpus: fold ``i`` tests on group ``i`` of ``fold_groups``.

    Args:
        corpus: Any corpus with at least three speakers.
        fold: 1 to the number of groups; None is the last (IEMOCAP: Session 5, as in the literature).
        by: As for ``fold_groups``; ``official``, and ``auto`` where there is one: the split that the corpus publishes.
        validation: ``held-out``: the group before the tested one, cyclically; of groups that lack classes the
            nearest one before with which the fold lacks the fewest; with single speakers the next one of the same
            session if there is one, because partners share their dialogues. ``random``: a fifth of the rows
            that are not tested, by whole recordings in the order of a hash of their names. The latter is common in
            the literature, and it leaks speakers.

    Returns:
        The fold, checked by ``check_disjoint``; all rows that are not in test or validation are in train.

    Raises:
        UserError: If the fold or its groups do not exist.
        DataErrors: If a speaker or a recording is in two subsets.

    Example:
        >>> from ser.corpora import load
        >>> fold = split(load("synthetic"))
        >>> fold.number, fold.unit, {name: len(rows) for name, rows in fold.subsets.items()}
        (5, 'session', {'train': 288, 'validation': 96, 'test': 96})
    """
    official = official_fold(corpus) if by in ("auto", "official") else None
    if by == "official" and official is None:
        raise UserError(f"corpus {corpus.name!r} has no official split. Pass --split-by auto, session or speaker.")
    if official is not None and validation == "held-out":
        if fold not in (None, 1):
            raise UserError(f"fold {fold} does not exist: the official split of corpus {corpus.name!r} is one fold.")
        return official
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
    elif unit in (GROUP, SESSIONS) and by != FORMER_AUTO:
        validating = group == validation_group(speakers_of(corpus), groups, fold - 1)
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


def fold_begun(
    corpus: Corpus, fold: int | None, by: str, validation: Validation, check: Callable[[Fold], None]
) -> Fold:
    """Return the fold that a training began with, one of today's or, where it is none of them, of version 0.1.

    Args:
        corpus: As for ``split``.
        fold: As for ``split``.
        by: As for ``split``.
        validation: As for ``split``.
        check: Raises a ``UserError`` if a fold is not that of the training.

    Raises:
        UserError: It is neither.
    """
    errors = []
    for way in (by, FORMER_AUTO) if by == "auto" else (by,):
        try:
            found = split(corpus, fold, way, validation)
            check(found)
        except UserError as error:
            errors.append(error)
        else:
            return found
    raise errors[0]


def rows_digest(corpus: Corpus, fold: Fold) -> str:
    """Return a digest of the utterances of each subset of a fold.

    Args:
        corpus: The corpus.
        fold: One of its folds.
    """
    ids = corpus.table["utterance_id"]
    return digest({subset: list(ids.iloc[rows]) for subset, rows in fold.subsets.items()})


def official_fold(corpus: Corpus) -> Fold | None:
    """Return the split that a corpus publishes, or None.

    Args:
        corpus: Any corpus; its column ``official_subset`` has ``train``, ``validation``, ``test``, or nothing for rows
            that are in none of them.

    Raises:
        DataErrors: If a speaker or a recording is in two subsets.
    """
    if "official_subset" not in corpus.table:
        return None
    subsets = corpus.table["official_subset"]
    train, validation, test = (np.flatnonzero(subsets == name) for name in SUBSETS)
    if not all(map(len, (train, validation, test))):
        return None
    fold = Fold(1, 1, OFFICIAL, train, validation, test)
    check_disjoint(corpus, fold)
    return fold


def speaker_fold(
    corpus: Corpus, number: int, count: int, unit: str, test: Collection[str], validation: Collection[str]
) -> Fold:
    """Return the fold that tests and validates on the named speakers and trains on all others.

    Args:
        corpus: Any corpus.
        number: As in ``Fold``.
        count: As in ``Fold``.
        unit: As in ``Fold``.
        test: Names of speakers.
        validation: Names of other speakers.

    Raises:
        DataErrors: If a recording is in two subsets.
    """
    speakers = corpus.table["speaker"]
    tested, validating = speakers.isin(test).to_numpy(), speakers.isin(validation).to_numpy()
    rows = [np.flatnonzero(mask) for mask in (~tested & ~validating, validating, tested)]
    fold = Fold(number, count, unit, rows[0], rows[1], rows[2])
    check_disjoint(corpus, fold)
    return fold


def _partner(corpus: Corpus, speakers: Sequence[str], tested: int) -> int:
    """Return the next speaker of the tested speaker's session, cyclically, or else the previous speaker."""
    sessions = corpus.table.drop_duplicates("speaker").set_index("speaker")["session"]
    partners = [
        index for index, name in enumerate(speakers) if sessions[name] and sessions[name] == sessions[speakers[tested]]
    ]
    if len(partners) > 1:
        return partners[(partners.index(tested) + 1) % len(partners)]
    return (tested - 1) % len(speakers)


def _random_fifth(corpus: Corpus, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Choose whole recordings in the order of their hashes until they have a fifth of the rows."""
    names = [path or id_ for path, id_ in zip(corpus.relative_paths, corpus.table["utterance_id"], strict=True)]
    order = hashed_uniform(0, "splits.validation", names)
    wanted, members = round(RANDOM_SHARE * int(among.sum())), np.zeros(len(corpus), dtype=bool)
    for value in np.unique(order[among]):
        if members.sum() >= wanted:
            break
        members |= among & (order == value)
    return members


def check_disjoint(corpus: Corpus, fold: Fold, content: ArrayLike | None = None) -> None:
    """Raise if a speaker or a recording is in two subsets.

    Args:
        corpus: The corpus that was split.
        fold: One of its folds.
        content: Digests of the decoded audio, (N,), as ``FeatureStore.content``; with None, copies under other names
            are not detected.

    Raises:
        DataErrors: If there is a leak. The message lists all speakers in two subsets or, if there are none, all
            recordings or, if there are none, all copies by content.
    """
    names = {"speaker": list(corpus.table["speaker"]), "path": corpus.relative_paths}
    pairs = (("train", "validation"), ("train", "test"), ("validation", "test"))
    for kind, name in names.items():
        members = {subset: {name[row] for row in rows} - {""} for subset, rows in fold.subsets.items()}
        errors = [
            (shared, f"{'speaker' if kind == 'speaker' else 'recording'} in both {first} and {second}")
            for first, second in pairs
            if not (kind == "speaker" and fold.shared_speakers and second == "validation")
            for shared in sorted(members[first] & members[second])
        ]
        if errors:
            advice = EXCLUDE_ADVICE
            if kind == "speaker":
                advice = "Correct the speaker and session columns of the corpus."
                if fold.unit == OFFICIAL:
                    advice = (
                        "The published split does not hold speakers apart. Pass --split-by speaker for folds that do, "
                        "or correct the data."
                    )
            raise DataErrors(f"leak in fold {fold.number} of corpus {corpus.name!r}", errors, advice)
    if content is not None:
        _check_content(corpus, fold, np.asarray(content))


def _check_content(corpus: Corpus, fold: Fold, content: NDArray[np.str_]) -> None:
    subset_of = {int(row): subset for subset, rows in fold.subsets.items() for row in rows}
    copies: dict[str, list[int]] = defaultdict(list)
    for row, heard in enumerate(content.tolist()):
        copies[heard].append(row)
    ids = corpus.table["utterance_id"]
    errors = [
        (ids[row], f"in {subset_of[row]}, is the same recording as {ids[rows[0]]} in {subset_of[rows[0]]}")
        for rows in copies.values()
        for row in rows[1:]
        if subset_of[row] != subset_of[rows[0]]
    ]
    if errors:
        raise DataErrors(
            f"leak in fold {fold.number} of corpus {corpus.name!r}: recordings with the same content in two subsets",
            errors,
            EXCLUDE_ADVICE,
        )
