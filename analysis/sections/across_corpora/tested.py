"""UAR of the trainings of a confirmation on their own corpus and on others, with intervals.

On its own corpus a training is tested on the speakers of its fold, so the unit is the fold. On another corpus every
training is tested on every speaker: trainings and speakers are crossed, and both are resampled
(``ser.metrics.intervals``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.common.designs import missing_trainings, planned_trainings, read_design
from analysis.common.records import Records
from analysis.common.results import read_results
from analysis.inference import CONFIDENCE, standard_error
from ser.metrics.intervals import crossed_interval
from study.schema import CHOSEN_BY, FINISHED
from study.setup.design import TRAINING, Design
from study.tracking.confirmations import chosen

COLUMNS = (
    "trained", "tested", "level", "method", "classes", "own_classes", "uar", "low", "high", "difference",
    "difference_low", "difference_high", "trainings", "units", "speakers", "utterances",
)  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tested:
    """Results of one confirmation with test corpora.

    Args:
        trained: Name of the corpus that is trained on.
        name: Name under which it is shown: that of the corpus, with the experiment where several are on one corpus.
        study: Name of the confirmation.
        design: Its design.
        missing: Planned trainings that have not finished.
        planned: Number of planned trainings.
        scores: One row for each tested corpus, level and method, its own corpus first, with the columns ``COLUMNS``:
            ``classes`` (number that the score is over), ``own_classes`` (number of the training), ``uar`` with the
            interval ``low`` to ``high``, ``difference`` (method − reference, NaN for the reference) with its interval,
            ``trainings``, ``units`` (folds, or the trainings on an official split), ``speakers``, ``utterances``.
    """

    trained: str
    name: str
    study: str
    design: Design
    missing: pd.DataFrame
    planned: int
    scores: pd.DataFrame


def read_tested(records: Records) -> Tested | None:
    """Read the newest confirmation of an experiment that has test corpora, None if there is none.

    Args:
        records: Records of the experiment.

    Raises:
        UserError: A table of a trial cannot be read.
    """
    begun = records.confirmed.groupby("study")["start"].min().sort_values(ascending=False, kind="stable")
    for study in begun.index:
        design, _ = read_design(records, str(study))
        if design is not None and design.test_corpora:
            return _read(records, str(study), design)
    return None


def _read(records: Records, study: str, design: Design) -> Tested:
    trials = records.confirmed[records.confirmed["study"] == study]
    stands = chosen(trials[trials["status"] == FINISHED], records.selection)
    own = read_results(records, stands[stands["exposure"] != CHOSEN_BY]).table
    tables = [own.assign(corpus="")]
    for trial in stands.to_dict("records"):
        counts = records.other_corpora(trial["run_id"])
        if counts is not None:
            where = {"method": trial["space"], "level": trial["noise"], "fold": trial["fold"], "seed": trial["seed"]}
            tables.append(counts.assign(**where))
    everything = pd.concat([table for table in tables if len(table)] or [tables[0]], ignore_index=True)
    own_classes = len(design.classes)
    rows = [
        {"trained": records.data, "tested": name or records.data, "level": level, "own_classes": own_classes, **scores}
        for name in ("", *(one.name for one in design.test_corpora))
        for level in design.levels
        for scores in _scores(everything[(everything["corpus"] == name) & (everything["level"] == level)], name, design)
    ]
    return Tested(
        trained=records.data,
        name=records.data,
        study=study,
        design=design,
        missing=missing_trainings(design, trials),
        planned=len(planned_trainings(design)),
        scores=pd.DataFrame(rows, columns=list(COLUMNS)),
    )


def _scores(counts: pd.DataFrame, other: str, design: Design) -> Iterator[Mapping[str, Any]]:
    """Yield the scores of each method at one level on one corpus, in the declared order."""
    unit = "seed" if design.unit == TRAINING else "fold"
    arrays = {
        method: _Counts.of(counts[counts["method"] == method], unit)
        for method in design.methods
        if (counts["method"] == method).any()
    }
    interval = _crossed if other else _by_unit
    for method, mine in arrays.items():
        row = {"method": method, "trainings": mine.trainings, "units": len(mine.units), "speakers": len(mine.speakers)}
        row |= {"classes": len(mine.classes), "utterances": int(mine.utterances)}
        row |= dict(zip(("uar", "low", "high"), interval(mine.correct, mine.total), strict=True))
        base = arrays.get(design.reference or "")
        if base is not None and method != design.reference and (shared := mine.shared(base)) is not None:
            found = interval(*shared)
            row |= dict(zip(("difference", "difference_low", "difference_high"), found, strict=True))
        yield row


@dataclass(frozen=True, eq=False)
class _Counts:
    """Right predictions of a method on a corpus.

    Args:
        units: Names of the U folds or trainings.
        speakers: Names of the S speakers.
        classes: Names of the C classes.
        correct: (U, S, C), the mean over the seeds of a fold; 0 for speakers that a unit is not tested on.
        total: (U, S, C) utterances.
        trainings: Number of trained networks.
    """

    units: list[Any]
    speakers: list[str]
    classes: list[str]
    correct: Floats
    total: Floats
    trainings: int

    @staticmethod
    def of(counts: pd.DataFrame, unit: str) -> _Counts:
        """Return the counts of one method, whose seeds are averaged within a fold."""
        mean = counts.groupby([unit, "speaker", "label"], sort=True)[["correct", "total"]].mean()
        units, speakers, classes = (list(mean.index.unique(level)) for level in range(3))
        index = pd.MultiIndex.from_product([units, speakers, classes])
        filled = mean.reindex(index, fill_value=0.0).to_numpy(dtype=np.float64)
        correct, total = filled.reshape(len(units), len(speakers), len(classes), 2).transpose(3, 0, 1, 2)
        trainings = len(counts[["fold", "seed"]].drop_duplicates())
        return _Counts(units, speakers, classes, correct, total, trainings)

    @property
    def utterances(self) -> float:
        """Return the number of test utterances; each speaker's are counted once."""
        return float(self.total.max(axis=0).sum())

    def shared(self, other: _Counts) -> tuple[Floats, Floats] | None:
        """Return the differences of right predictions and the utterances of the units of both; None without any."""
        both = [unit for unit in self.units if unit in other.units]
        if not both or (self.speakers, self.classes) != (other.speakers, other.classes):
            return None
        mine, theirs = ([one.units.index(unit) for unit in both] for one in (self, other))
        return self.correct[mine] - other.correct[theirs], self.total[mine]


def _crossed(correct: Floats, total: Floats) -> tuple[float, float, float]:
    """Return a UAR, or a difference of two, where every unit is tested on every speaker."""
    found = crossed_interval(correct, total.max(axis=0))
    return found.estimate, found.low, found.high


def _by_unit(correct: Floats, total: Floats) -> tuple[float, float, float]:
    """Return a UAR pooled over units, or a difference of two, with a t interval over the units."""
    pooled = total.sum(axis=(0, 1)) * total.shape[2]
    shares, weights = (correct.sum(axis=1) / pooled).sum(axis=1), (total.sum(axis=1) / pooled).sum(axis=1)
    error = float(standard_error(shares[:, None], weights)[0])
    reach = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, max(len(shares) - 1, 1)))
    estimate = float(shares.sum())
    return estimate, estimate - reach, estimate + reach
