"""Confirmed methods compared with a reference, and ranked: from the records to tables, without a word on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.common.records import Records
from analysis.sections.significance.speaker_counts import Block, Counts, Pool, count, full_blocks, pool
from analysis.sections.significance.statistics import ALPHA, Comparison, Ranking, compare, holm, rank_methods
from ser.utils.command_names import command_line
from ser.utils.errors import UserError
from study.schema import DEFAULT, FINISHED
from study.tracking.confirmations import newest, representatives

HELD_OUT, SEEN = "held out", "seen by search"
"""Whether the search has trained on, or chosen by, a fold's test rows."""

BETTER, WORSE, NO_EVIDENCE, IMPOSSIBLE = "better", "worse", "no evidence", "not possible"
"""Verdicts; ``not possible``: so few speakers, and so many comparisons, allow no p below the level."""

SEED = 0  # of resampling and permutation


@dataclass(frozen=True, eq=False)
class Tested:
    """The trials of the confirm stage that stand for their methods, with their test predictions.

    Args:
        trials: Rows of ``Records.confirmed``: finished trials of each level's and space's representative, with
            ``folds``, ``held out`` or ``seen by search``.
        counts: Run id → test predictions, of the trials that have some.
        unfinished: Trials of the confirm stage that have not finished.
        repeated: Finished trials that a newer one replaces, for it has the same seed and fold, or another source.
        untabled: Run ids of finished trials that have no table of utterances.
        untrue: Run ids of finished trials whose test utterances have no true label.
    """

    trials: pd.DataFrame
    counts: Mapping[str, Counts]
    unfinished: int
    repeated: int
    untabled: tuple[str, ...]
    untrue: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LevelRanking:
    """The ranks of the methods of one noise level.

    Args:
        noise: Its name.
        folds: ``held out`` or ``seen by search``.
        methods: Spaces, in the order of ``ranking.ranks``.
        blocks: How many (fold, seed) blocks they are of.
        mean_uar: Mean test UAR over the blocks, in the same order.
        ranking: Friedman and Nemenyi; None with fewer than three methods or two blocks.
    """

    noise: str
    folds: str
    methods: tuple[str, ...]
    blocks: int
    mean_uar: tuple[float, ...]
    ranking: Ranking | None


def read_tested(records: Records, *, defaults: bool = False) -> Tested:
    """The finished trials that stand for their methods, and what they predicted.

    Args:
        records: Of both stages.
        defaults: The published default of each method too, where it was confirmed.

    Raises:
        UserError: A table cannot be read.
    """
    finished = records.confirmed[records.confirmed["status"] == FINISHED]
    done = newest(finished)
    chosen = representatives(done, records.selection)[["noise", "space", "candidate"]]
    keys = list(chosen.columns)
    wanted = done.set_index(keys).index.isin(chosen.set_index(keys).index)
    trials = done[wanted | (done["candidate"] == DEFAULT) if defaults else wanted]
    folds = np.where(trials["seen"].astype(bool), SEEN, HELD_OUT)
    counts, untabled, untrue = {}, [], []
    for run_id in trials["run_id"]:
        utterances = records.utterances(run_id)
        if utterances is None:
            untabled.append(run_id)
        elif (counted := count(utterances, records.classes)) is None:
            untrue.append(run_id)
        else:
            counts[run_id] = counted
    return Tested(
        trials.assign(folds=folds).reset_index(drop=True),
        counts,
        len(records.confirmed) - len(finished),
        len(finished) - len(done),
        tuple(untabled),
        tuple(untrue),
    )


def pooled(tested: Tested, trials: pd.DataFrame, classes: int, blocks: set[Block] | None = None) -> Pool | None:
    """One configuration's predictions, over all folds for each seed.

    Args:
        tested: Where the predictions are.
        trials: Trials of one configuration.
        classes: How many classes there are.
        blocks: Only these (seed, fold); None is all.

    Returns:
        The pool of the seeds and folds that were all combined, None if there is no trial.
    """
    counts = block_counts(tested, trials)
    blocks = set(counts) if blocks is None else blocks & set(counts)
    if not blocks:
        return None
    seeds, folds = full_blocks(sorted(blocks))
    return pool(counts, seeds, folds, classes)


def block_counts(tested: Tested, trials: pd.DataFrame) -> dict[Block, Counts]:
    """(seed, fold) → the predictions of one configuration's trials."""
    keyed = zip(trials["seed"], trials["fold"], trials["run_id"], strict=True)
    return {(int(seed), int(fold)): tested.counts[run] for seed, fold, run in keyed if run in tested.counts}


def compare_all(tested: Tested, reference: str, classes: int) -> pd.DataFrame:
    """Every method against the reference at each noise level, on the same seeds and folds, hence noise draws.

    Args:
        tested: From ``read_tested``, representatives alone.
        reference: A space.
        classes: How many classes there are.

    Returns:
        One row for each (folds, noise level, method): ``folds``, ``noise``, ``rate``, ``method``, ``candidate``,
        ``reference``, ``reference_candidate``, ``uar``, ``uar_reference``, the fields of ``Comparison``, ``sd_seeds``
        (standard deviation of the difference over seeds, NaN with one), ``p_holm`` and ``p_holm_smallest`` (adjusted
        over all methods and levels of the same ``folds``), ``verdict``, ``speakers``, ``utterances``, ``unlabelled``,
        ``seeds`` and ``fold_names`` (comma-separated), and ``unpaired``, the trials left without a counterpart.

    Raises:
        UserError: The two were tested on different utterances.
    """
    rows = [row for part in (HELD_OUT, SEEN) for row in _pairs(tested, reference, classes, part)]
    columns = [
        "folds", "noise", "rate", "method", "candidate", "reference", "reference_candidate", "uar", "uar_reference",
        *Comparison.__dataclass_fields__, "sd_seeds", "speakers", "utterances", "unlabelled", "seeds", "fold_names",
        "unpaired",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    families = table.groupby("folds", sort=False)
    table["p_holm"] = families["p"].transform(holm)
    table["p_holm_smallest"] = families["p_smallest"].transform(holm)
    table["verdict"] = [
        IMPOSSIBLE if smallest > ALPHA else NO_EVIDENCE if p > ALPHA else BETTER if difference > 0 else WORSE
        for smallest, p, difference in zip(table["p_holm_smallest"], table["p_holm"], table["difference"], strict=True)
    ]
    return table


def _pairs(tested: Tested, reference: str, classes: int, part: str) -> Iterator[dict[str, object]]:
    trials = tested.trials[tested.trials["folds"] == part]
    for noise, level in trials.groupby("noise", sort=False):
        base = level[level["space"] == reference]
        for method, rows in level[level["space"] != reference].groupby("space", sort=True):
            common = set(block_counts(tested, rows)) & set(block_counts(tested, base))
            a, b = pooled(tested, rows, classes, common), pooled(tested, base, classes, common)
            if a is None or b is None:
                continue
            if a.speakers != b.speakers or not np.array_equal(a.total, b.total):
                raise UserError(
                    f"{method} and {reference} were tested on different utterances at {noise}. Confirm again: "
                    f"{command_line('study/confirm.py')} with a new --name."
                )
            by_seed = a.uar_by_seed - b.uar_by_seed
            yield {
                "folds": part,
                "noise": noise,
                "rate": rows["rate"].iloc[0],
                "method": method,
                "candidate": rows["candidate"].iloc[0],
                "reference": reference,
                "reference_candidate": base["candidate"].iloc[0],
                "uar": a.uar_by_seed.mean(),
                "uar_reference": b.uar_by_seed.mean(),
                **vars(compare(a.mean_correct, b.mean_correct, a.total, SEED)),
                "sd_seeds": by_seed.std(ddof=1) if len(by_seed) > 1 else float("nan"),
                "speakers": len(a.speakers),
                "utterances": int(a.total.sum()),
                "unlabelled": a.unlabelled,
                "seeds": ", ".join(map(str, a.seeds)),
                "fold_names": ", ".join(map(str, a.folds)),
                "unpaired": len(rows) + len(base) - 2 * len(a.seeds) * len(a.folds),
            }


def rank_all(tested: Tested) -> list[LevelRanking]:
    """The methods of each level ranked by the test UAR of each (fold, seed), on held-out folds where there are any.

    Args:
        tested: From ``read_tested``, representatives alone.

    Returns:
        Levels in the order of the trials; blocks in which a method is missing are left out.
    """
    found = []
    for noise, level in tested.trials.groupby("noise", sort=False):
        part = HELD_OUT if (level["folds"] == HELD_OUT).any() else SEEN
        scores = level[level["folds"] == part].pivot_table(index=["fold", "seed"], columns="space", values="uar")
        whole = scores.dropna()
        enough = whole.shape[1] >= 3 and len(whole) >= 2
        ranking = rank_methods(whole.to_numpy()) if enough else None
        means = tuple(float(mean) for mean in whole.mean())
        found.append(LevelRanking(str(noise), part, tuple(map(str, scores.columns)), len(whole), means, ranking))
    return found
