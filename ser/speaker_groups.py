"""Groups of speakers for folds: every class in as many groups as its speakers allow, genders spread, sizes alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ser.corpora.corpus import Corpus

MAX_FOLDS, USUAL_FOLDS, LEAST_FOLDS = 8, 5, 3
"""Folds of groups: at most, usually at least, and at least where a class is rare."""

MAX_IMPROVED = 100
"""Largest number of speakers whose groups are improved by swaps; more speakers are alike without them."""
MAX_SWAPS, ATTEMPTS = 200, 10

# A class that a group lacks weighs more than genders, and these more than numbers of utterances.
LACKING, GENDERS = 1e7, 1e2


@dataclass(frozen=True)
class Speakers:
    """Speakers of a corpus.

    Args:
        names: N names, sorted.
        genders: N genders.
        utterances: N × C numbers of utterances of each class.
    """

    names: tuple[str, ...]
    genders: tuple[str, ...]
    utterances: tuple[tuple[int, ...], ...]


def speakers_of(corpus: Corpus, by: str = "speaker") -> Speakers:
    """Return the speakers of a corpus, with their genders (the first of several) and classes.

    Args:
        corpus: Any corpus.
        by: ``session`` returns its sessions as if each were a speaker; their gender is that of all of their speakers.
    """
    cells = corpus.table[by]
    names, speaker = np.unique(cells.to_numpy(dtype=str), return_inverse=True)
    counts = np.zeros((len(names), len(corpus.classes)), dtype=np.int64)
    np.add.at(counts, (speaker, corpus.labels), 1)
    found: dict[str, list[str]] = {str(name): [] for name in names}
    for name, gender in sorted(set(zip(cells, corpus.table["gender"], strict=True))):
        found[name].append(gender)
    genders = (kinds[0] if by == "speaker" else " and ".join(kinds) for kinds in found.values())
    return Speakers(tuple(found), tuple(genders), tuple(map(tuple, counts.tolist())))


def joined(members: Mapping[str, Sequence[str]], groups: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the speakers of groups of sessions.

    Args:
        members: Session → speakers.
        groups: Groups of sessions.

    Example:
        >>> joined({"1": ["ann", "bob"], "2": ["cat"], "3": ["dan"]}, [["1", "3"], ["2"]])
        [('ann', 'bob', 'dan'), ('cat',)]
    """
    return [tuple(sorted(chain(*(members[name] for name in group)))) for group in groups]


@lru_cache(maxsize=16)
def fold_groups_of(speakers: Speakers) -> tuple[tuple[str, ...], ...]:
    """Divide speakers into the groups that the folds of a search test.

    There are five to eight: the number with which the groups lack the fewest classes, then the fewest genders, then
    the largest. Only where the last fold, which a search takes by default, would lack a class that three speakers
    have, there may be three or four. Fewer groups leave fewer speakers to train on.

    Args:
        speakers: At least three speakers.

    Returns:
        The groups in the order of their first names, except that the last one is one whose fold lacks the fewest
        classes.

    Example:
        >>> names = tuple("abcdefghij")
        >>> fold_groups_of(Speakers(names, ("female", "male") * 5, ((2, 3),) * 10))
        (('a', 'b'), ('c', 'd'), ('e', 'f'), ('g', 'h'), ('i', 'j'))
    """
    most = min(MAX_FOLDS, len(speakers.names))
    judged: list[tuple[tuple[float, ...], tuple[tuple[str, ...], ...]]] = []
    for count in range(most, LEAST_FOLDS - 1, -1):
        if judged and count < USUAL_FOLDS and min(judged)[0][0] == 0:
            break  # the last fold lacks no class, so there need not be as few
        judged.append(_judged(speakers, count))
        if not any(judged[-1][0][:-1]):
            break  # nothing is missing
    return min(judged)[1]


def validation_group(speakers: Speakers, groups: Sequence[Sequence[str]], tested: int) -> int:
    """Return the group that validates while another one is tested: the one before, if the fold lacks no class then.

    Otherwise it is the nearest one before, cyclically, with which the three subsets lack the fewest classes.

    Args:
        speakers: The speakers.
        groups: Groups of them, at least three.
        tested: Index of the tested group.
    """
    return _best_validation(_Classes(speakers, groups), tested)


class _Classes:
    """Classes of some groups of speakers.

    Args:
        speakers: All speakers.
        groups: G groups of them.
    """

    def __init__(self, speakers: Speakers, groups: Sequence[Sequence[str]]) -> None:
        row = {name: place for place, name in enumerate(speakers.names)}
        has = np.array(speakers.utterances) > 0
        self.present = np.array([has[[row[name] for name in group]].any(axis=0) for group in groups])
        self.common = has.sum(axis=0) >= LEAST_FOLDS

    @property
    def lacking(self) -> float:
        """Return how many classes a group lacks on average, of those that three speakers have."""
        return float((~self.present[:, self.common]).sum() / len(self.present))

    def lacking_in_fold(self, tested: int, validating: int) -> tuple[int, int]:
        """Return how many classes train, validation and test lack: of those that three speakers have, and of all.

        A class that training lacks counts twice.
        """
        trained = np.delete(self.present, [tested, validating], axis=0).any(axis=0)
        lacking = ~self.present[tested] * 1 + ~self.present[validating] * 1 + ~trained * 2
        return int(lacking[self.common].sum()), int(lacking.sum())


def _best_validation(classes: _Classes, tested: int) -> int:
    count = len(classes.present)
    before = [(tested - step) % count for step in range(1, count)]
    return min(before, key=lambda one: classes.lacking_in_fold(tested, one))


def _judged(speakers: Speakers, count: int) -> tuple[tuple[float, ...], tuple[tuple[str, ...], ...]]:
    """Return what speaks against a number of groups, the first number first, and the groups."""
    groups = alike_groups(speakers, count)
    classes = _Classes(speakers, groups)
    lacking = [classes.lacking_in_fold(one, _best_validation(classes, one)) for one in range(count)]
    last = min(range(count), key=lambda one: (lacking[one], -one))
    genders = dict(zip(speakers.names, speakers.genders, strict=True))
    kinds = set(speakers.genders)
    missing = sum(len(kinds - {genders[name] for name in group}) for group in groups)
    against = (float(lacking[last][0]), classes.lacking, missing / count, float(-count))
    return against, (*groups[:last], *groups[last + 1 :], groups[last])


@lru_cache(maxsize=64)
def alike_groups(speakers: Speakers, count: int) -> tuple[tuple[str, ...], ...]:
    """Divide speakers into a number of groups that are as alike as a greedy choice and swaps of two speakers make them.

    What counts, in this order: how many classes the groups lack in sum; how many groups lack none that three speakers
    have; how far genders are from equal shares; how far the utterances of each class are. The numbers of speakers
    differ by one at most. Neither the order of rows nor the machine matters.

    Args:
        speakers: The speakers.
        count: Number of groups, at most the number of speakers.

    Returns:
        The groups in the order of their first names, each sorted.

    Example:
        >>> people = Speakers(("a", "b", "c", "d"), ("unknown",) * 4, ((3, 0), (2, 0), (0, 4), (0, 1)))
        >>> alike_groups(people, 2)
        (('a', 'd'), ('b', 'c'))
    """
    features = _features(speakers)
    best, lowest = _greedy(speakers, features, count), np.inf
    for attempt in range(ATTEMPTS if len(speakers.names) <= MAX_IMPROVED else 0):
        group = best.copy() if attempt == 0 else np.random.default_rng(attempt).permutation(len(best)) % count
        cost = _improve(group, features, count)
        if cost < lowest:
            best, lowest = group, cost
        if lowest < 0:  # no group lacks a class
            break
    group = best
    members = [tuple(name for name, place in zip(speakers.names, group, strict=True) if place == one)
               for one in range(count)]  # fmt: skip
    return tuple(sorted(members))


@dataclass(frozen=True, eq=False)
class _Features:
    """Features of speakers whose sums over a group's speakers are compared.

    Args:
        classes: (N, C) whether a speaker has a class.
        genders: (N, K) whether a speaker is of a gender.
        shares: (N, C) share of a class's utterances.
    """

    classes: NDArray[np.float64]
    genders: NDArray[np.float64]
    shares: NDArray[np.float64]

    @property
    def all(self) -> NDArray[np.float64]:
        """Return all of them side by side."""
        return np.column_stack([self.classes, self.genders, self.shares])

    def cost(self, sums: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Return (…,) how far groups are from their share of everything.

        Args:
            sums: (…, C + K + C) sums over the speakers of each group.
            count: Number of groups.
        """
        classes, genders, shares = np.split(
            sums, [self.classes.shape[1], self.classes.shape[1] + self.genders.shape[1]], axis=-1
        )
        unlike = ((genders - self.genders.sum(axis=0) / count) ** 2).sum(axis=-1)
        uneven = ((shares - 1 / count) ** 2).sum(axis=-1)
        absent = classes < 0.5
        whole = ~(absent & (self.classes.sum(axis=0) >= LEAST_FOLDS)).any(axis=-1)
        lacking = absent.sum(axis=-1) - whole / (2 * count)  # of equal sums, that with more whole groups
        cost: NDArray[np.float64] = LACKING * lacking + GENDERS * unlike + uneven
        return cost


def _features(speakers: Speakers) -> _Features:
    utterances = np.array(speakers.utterances, dtype=np.float64)
    kinds = sorted(set(speakers.genders))
    genders = np.array([[gender == kind for kind in kinds] for gender in speakers.genders], dtype=np.float64)
    return _Features((utterances > 0).astype(np.float64), genders, utterances / np.maximum(utterances.sum(axis=0), 1.0))


def _greedy(speakers: Speakers, features: _Features, count: int) -> NDArray[np.int64]:
    """Return the group of each speaker: each joins, of the groups with the fewest speakers, the one that needs it most.

    The rarer gender comes first, and in it the speakers of rare classes and of many utterances.
    """
    of_gender = Counter(speakers.genders)
    rarest = np.where(features.classes > 0, features.classes.sum(axis=0), np.inf).min(axis=1)
    many = features.shares.sum(axis=1)
    order = sorted(
        range(len(speakers.names)),
        key=lambda one: (of_gender[speakers.genders[one]], speakers.genders[one], rarest[one], -many[one], one),
    )
    values = features.all
    group, sizes = np.zeros(len(order), dtype=np.int64), np.zeros(count)
    sums = np.zeros((count, values.shape[1]))
    for one in order:
        gain = features.cost(sums + values[one], count) - features.cost(sums, count)
        place = int(np.argmin(np.where(sizes == sizes.min(), gain, np.inf)))
        group[one] = place
        sizes[place] += 1
        sums[place] += values[one]
    return group


def _improve(group: NDArray[np.int64], features: _Features, count: int) -> float:
    """Swap the two speakers that help most, as long as that helps; return the cost of all groups."""
    values = features.all
    first, second = np.triu_indices(len(group), 1)
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, group, values)
    for _ in range(MAX_SWAPS):
        apart = group[first] != group[second]
        one, other = first[apart], second[apart]
        difference = values[other] - values[one]
        before = features.cost(sums, count)
        after = features.cost(sums[group[one]] + difference, count)
        after += features.cost(sums[group[other]] - difference, count)
        gain = before[group[one]] + before[group[other]] - after
        best = int(np.argmax(np.round(gain, 6)))
        if gain[best] < 1e-6:
            break
        sums[group[one[best]]] += difference[best]
        sums[group[other[best]]] -= difference[best]
        group[[one[best], other[best]]] = group[[other[best], one[best]]]
    return float(features.cost(sums, count).sum())
