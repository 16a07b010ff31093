"""Predictions of the test part as counts by seed, speaker and class: all that a comparison of UARs needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.sections.significance.statistics import uar
from ser.training.utterance_table import PROBABILITY, TEST
from ser.utils.command_names import command_line
from ser.utils.errors import UserError

Block = tuple[int, int]
"""Seed and fold: what two methods must share to be paired."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Test predictions of one trial, or of several folds of one seed.

    Args:
        table: One row for each (speaker, class index) that has utterances, the index; ``correct`` and ``total``.
        unlabelled: Test utterances without a true label; they are in no count.
    """

    table: pd.DataFrame
    unlabelled: int = 0


@dataclass(frozen=True, eq=False)
class Pool:
    """A method's test predictions over folds: every utterance once for each seed.

    Args:
        correct: (R, S, C) right predictions by seed, speaker and class.
        total: (S, C) utterances.
        speakers: S names, sorted.
        seeds: R seeds, ascending.
        folds: Whose test rows were pooled, ascending.
        unlabelled: Test utterances without a true label, left out.
    """

    correct: NDArray[np.float64]
    total: NDArray[np.float64]
    speakers: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    unlabelled: int

    @property
    def mean_correct(self) -> NDArray[np.float64]:
        """(S, C) means over seeds. UAR is linear in them, so theirs is the mean of the seeds' UARs."""
        return np.asarray(self.correct.mean(axis=0))

    @property
    def uar_by_seed(self) -> NDArray[np.float64]:
        """(R,) UAR of each seed."""
        return uar(self.correct.sum(axis=1), self.total.sum(axis=0))


def count(utterances: pd.DataFrame, classes: Sequence[str]) -> Counts | None:
    """Right predictions and utterances of the test part, by speaker and class.

    Args:
        utterances: A trial's table (``ser.training.utterance_table``) with rows of part ``test``.
        classes: Class names.

    Returns:
        The counts, or None if no test utterance has a true label.

    Raises:
        UserError: The table has other classes.
    """
    test = utterances[utterances["subset"] == TEST]
    columns = [PROBABILITY + name for name in classes]
    labelled = test[test["label"].notna()]
    unknown = set(labelled["label"]) - set(classes)
    if unknown or not set(columns) <= set(test.columns):
        raise UserError(
            f"a table of utterances has other classes than its trial's record ({', '.join(classes)}). Confirm again: "
            f"{command_line('study/confirm.py')} with a new --name."
        )
    if labelled.empty:
        return None
    truth = pd.Categorical(labelled["label"], categories=list(classes)).codes
    predicted = labelled[columns].to_numpy().argmax(axis=1)
    rows = pd.DataFrame(
        {"speaker": labelled["speaker"].astype(str).to_numpy(), "label": truth, "correct": predicted == truth}
    )
    grouped = rows.groupby(["speaker", "label"])["correct"]
    return Counts(pd.DataFrame({"correct": grouped.sum(), "total": grouped.size()}), len(test) - len(labelled))


def full_blocks(blocks: Sequence[Block]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Seeds and folds that were all combined: those that hold the most blocks, more folds before more seeds.

    Args:
        blocks: Which (seed, fold) there are; at least one.

    Returns:
        Seeds and folds, ascending; every pair of them is among the blocks.
    """
    by_seed = {seed: frozenset(fold for other, fold in blocks if other == seed) for seed, _ in blocks}

    def seeds_with(folds: frozenset[int]) -> tuple[int, ...]:
        return tuple(sorted(seed for seed, there in by_seed.items() if folds <= there))

    choices: set[frozenset[int]] = set()
    for there in by_seed.values():
        choices |= {there} | {there & other for other in choices}
    choices.discard(frozenset())
    best = max(choices, key=lambda folds: (len(folds) * len(seeds_with(folds)), len(folds), sorted(folds)))
    return seeds_with(best), tuple(sorted(best))


def pool(trials: Mapping[Block, Counts], seeds: Sequence[int], folds: Sequence[int], classes: int) -> Pool:
    """Pools the folds of each seed.

    Args:
        trials: (seed, fold) → what was counted.
        seeds: Which of them.
        folds: Which of them; every (seed, fold) is there.
        classes: How many.

    Raises:
        UserError: The seeds were not tested on the same utterances.
    """
    summed = [
        pd.concat([trials[seed, fold].table for fold in folds]).groupby(level=["speaker", "label"]).sum()
        for seed in seeds
    ]
    speakers = sorted(set(summed[0].index.get_level_values("speaker")))
    cells = pd.MultiIndex.from_product([speakers, range(classes)], names=["speaker", "label"])
    if any(not table["total"].equals(summed[0]["total"]) for table in summed):
        raise UserError(
            f"seeds {', '.join(map(str, seeds))} of one configuration were tested on different utterances of folds "
            f"{', '.join(map(str, folds))}. Confirm again: {command_line('study/confirm.py')} with a new --name."
        )
    shape = (len(speakers), classes)
    arrays = [table.reindex(cells, fill_value=0) for table in summed]
    return Pool(
        np.stack([table["correct"].to_numpy(dtype=np.float64).reshape(shape) for table in arrays]),
        arrays[0]["total"].to_numpy(dtype=np.float64).reshape(shape),
        tuple(speakers),
        tuple(seeds),
        tuple(folds),
        sum(trials[seeds[0], fold].unlabelled for fold in folds),
    )
