"""Folds of a test: each speaker, or small group of speakers, is tested by a network of its own.

A trained network is one draw, and all test speakers of a fold are judged by the same one. So a test has many folds of
few speakers, not few folds of many (docs/inference.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ser.corpora.corpus import Corpus
from ser.speaker_groups import Speakers, alike_groups, joined, speakers_of
from ser.splits import GROUP, SESSIONS, Fold, SplitBy, fold_groups, official_fold, speaker_fold
from ser.utils.errors import UserError

MAX_UNITS = 24
"""Up to this number of speakers each one is a fold; more are put into this number of groups."""

MANY_SPEAKERS, VALIDATION_SPEAKERS, MORE_SPEAKERS = 20, 3, 2
"""From ``MANY_SPEAKERS`` on, ``VALIDATION_SPEAKERS`` of them validate in each fold; with fewer, one. ``MORE_SPEAKERS``
do so at most where these lack classes."""


def design_folds(corpus: Corpus, by: SplitBy = "auto", spare: Collection[str] = ()) -> tuple[Fold, ...]:
    """Return the folds of a test.

    Args:
        corpus: Any corpus with at least three speakers.
        by: ``auto`` or ``speaker``: sessions where the speakers of a session belong together, because partners of a
            dialogue are not independent; else single speakers; ``MAX_UNITS`` groups of similar composition where there
            are more of either. ``session``: sessions. ``official``, and ``auto`` where there is one: the corpus's
            official split, which is one fold.
        spare: Speakers that are not tested: a search has chosen by them.

    Returns:
        Folds 1, 2, …; validation speakers follow the tested ones by rotation, with up to two more that have classes
        which these lack; all others train.

    Raises:
        UserError: There are fewer than three speakers or sessions, or nothing is left to test.
        DataErrors: A speaker or a recording is in two subsets.

    Example:
        >>> from ser.corpora import load
        >>> folds = design_folds(load("synthetic"))
        >>> len(folds), folds[0].unit, {name: len(rows) for name, rows in folds[0].subsets.items()}
        (5, 'session', {'train': 288, 'validation': 96, 'test': 96})
    """
    if by in ("auto", "official") and (official := official_fold(corpus)) is not None:
        return (official,)
    unit, groups = fold_groups(corpus, "session" if by == "session" else "auto")
    if unit == SESSIONS:
        unit, groups = _session_units(corpus)
    if unit == GROUP:
        unit, groups = _speaker_units(corpus)
    tested = [number for number, group in enumerate(groups) if not set(group) & set(spare)]
    if not tested:
        raise UserError(
            f"corpus {corpus.name!r}: the search has validated on every {unit}, so none is left to test its winners "
            "on. Search with --validation held-out."
        )
    speakers = speakers_of(corpus)
    folds = []
    for number, group in enumerate(tested, start=1):
        validating = _validating(speakers, unit, groups, group)
        folds.append(speaker_fold(corpus, number, len(tested), unit, groups[group], validating))
    return tuple(folds)


def _speaker_units(corpus: Corpus) -> tuple[str, list[tuple[str, ...]]]:
    """Return single speakers, genders in turn, or groups of speakers that are alike in classes and gender."""
    speakers = speakers_of(corpus)
    if len(speakers.names) > MAX_UNITS:
        return GROUP, list(alike_groups(speakers, MAX_UNITS))
    return "speaker", [(name,) for name in _in_turn(speakers)]


def _session_units(corpus: Corpus) -> tuple[str, list[tuple[str, ...]]]:
    """Return sessions, or groups of sessions that are alike."""
    _, sessions = fold_groups(corpus, "session")
    if len(sessions) <= MAX_UNITS:
        return "session", sessions
    found = speakers_of(corpus, "session")
    return SESSIONS, joined(dict(zip(found.names, sessions, strict=True)), alike_groups(found, MAX_UNITS))


def _in_turn(speakers: Speakers) -> list[str]:
    """Return the speakers so that genders alternate as far as their numbers allow, each gender in order of names."""
    order = []
    for gender in set(speakers.genders):
        names = [name for name, own in zip(speakers.names, speakers.genders, strict=True) if own == gender]
        order += [((place + 0.5) / len(names), gender, name) for place, name in enumerate(names)]
    return [name for _, _, name in sorted(order)]


def _validating(speakers: Speakers, unit: str, groups: Sequence[tuple[str, ...]], tested: int) -> set[str]:
    """Return the validation speakers: those of the next groups, and of at most two more that have a missing class."""
    classes = {
        name: {column for column, number in enumerate(row) if number}
        for name, row in zip(speakers.names, speakers.utterances, strict=True)
    }
    following = [groups[(tested + step) % len(groups)] for step in range(1, len(groups))]
    many = unit != "session" and sum(map(len, groups)) >= MANY_SPEAKERS
    found: set[str] = set()
    while following and len(found) < (VALIDATION_SPEAKERS if many else 1):
        found |= set(following.pop(0))
    if unit == "session":
        return found
    most = len(found) + MORE_SPEAKERS
    for group in following:
        trained = set(classes) - set(groups[tested]) - found
        added = _all(classes, group) - _all(classes, found)
        if added and len(found | set(group)) <= most and _all(classes, trained - set(group)) >= _all(classes, trained):
            found |= set(group)
    return found


def _all(classes: Mapping[str, set[int]], names: Iterable[str]) -> set[int]:
    """Return the classes that some speakers have together."""
    return set().union(*(classes[name] for name in names))
