"""Summary of a corpus before training: sizes, agreement, folds, duplicates and data errors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.audio import AudioFault, full_scale, read_at_own_rate
from ser.audio.levels import level_warnings, measure
from ser.corpora.corpus import EXCLUDE_ADVICE, GENDERS, SYNTHESIS_RATE, Corpus, Synthesizer, count_votes
from ser.corpora.loader_result import without
from ser.fold_classes import class_counts, class_lines, folds_lines, one_class
from ser.metrics.agreement import (
    STRATA,
    HumanCeiling,
    anonymous_annotations,
    fleiss_kappa,
    human_ceiling,
    krippendorff_alpha,
    strata,
    vote_entropy,
)
from ser.noise.recipes import disagreement
from ser.splits import SUBSETS, SplitBy, split
from ser.utils.errors import DataErrors, UserError
from ser.utils.parallel import in_order

RATINGS = ("valence", "activation", "dominance", "recognition", "naturalness")
"""Columns of ``Corpus.table`` that are summarised by class."""
QUIET = -50.0
"""Level in dB relative to full scale below which an utterance counts as quiet."""
CLIPPED = 0.999
"""Magnitude from which a sample counts as clipped; full scale is 1."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Description:
    """Result of ``describe``.

    Args:
        numbers: All statistics, serialisable as JSON; undefined ones are None. ``faults`` lists the data errors; the
            other statistics leave these utterances out.
        utterances: One row per utterance without errors, in the order of the table: ``utterance_id``, ``speaker``,
            ``gender``, ``session``, ``label``, then ``seconds``, ``rate`` (Hz), ``channels``, ``format``,
            ``level_dbfs`` (root mean square relative to full scale), ``peak`` (largest magnitude), ``clipped``
            (samples), ``content`` (digest of the decoded samples), ``stratum`` and ``entropy`` (of the votes; missing
            without votes).
        errors: (utterance id, what is wrong with its audio).
    """

    numbers: dict[str, Any]
    utterances: pd.DataFrame
    errors: tuple[tuple[str, str], ...]


def describe(
    corpus: Corpus, progress: Progress | None = None, workers: int | None = None, split_by: SplitBy = "auto"
) -> Description:
    """Decode every utterance once and compute the statistics of a corpus.

    Utterances whose audio has errors enter nothing but the list of errors, so that excluding them changes nothing
    else. The audio of only a few utterances is in memory at a time.

    Args:
        corpus: Any corpus.
        progress: Called with (utterances done, utterances in total).
        workers: Number of decoding threads; None chooses by the number of cores.
        split_by: How the folds that are described are made, as for ``ser.splits.split``.

    Raises:
        DataErrors: If no utterance can be decoded.
    """
    sounds: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    rows = corpus.table[["utterance_id", "path", "start", "end"]].itertuples(index=False, name=None)
    with closing(in_order(lambda row: _sound(corpus.synthesize, *row), rows, workers)) as results:
        for done, ((utterance_id, *_), result) in enumerate(results, start=1):
            if isinstance(result, str):
                errors.append((utterance_id, result))
            else:
                sounds.append({"utterance_id": utterance_id, **vars(result)})
            if progress is not None:
                progress(done, len(corpus))
    if not sounds:
        raise DataErrors(f"corpus {corpus.name!r}", errors, EXCLUDE_ADVICE)
    rest = without(corpus, [utterance_id for utterance_id, _ in errors]) if errors else corpus
    names = rest.table[["utterance_id", "speaker", "gender", "session", "label"]]
    utterances = names.merge(pd.DataFrame(sounds), on="utterance_id", validate="1:1")
    votes = _votes(rest)
    stratum, entropy = _vote_columns(rest, votes)
    utterances = utterances.assign(stratum=stratum, entropy=entropy)
    numbers = {
        "corpus": rest.name,
        "root": None if rest.root is None else str(rest.root),
        "digest": rest.digest,
        "size": _size(utterances),
        "audio": _audio(utterances),
        "classes": _classes(utterances, rest.classes),
        "outside": dict(rest.outside),
        "unused": dict(rest.unused),
        "excluded": list(corpus.excluded),
        "agreement": None if votes is None else _agreement(rest, votes, utterances),
        "ratings": _ratings(rest),
        "folds": _folds(rest, utterances["seconds"].to_numpy(), split_by),
        "duplicates": _duplicates(utterances),
        "faults": [{"utterance_id": utterance_id, "fault": error} for utterance_id, error in errors],
    }
    return Description(numbers, utterances, tuple(errors))


@dataclass(frozen=True)
class _Sound:
    """Properties of the audio of an utterance; the fields are columns of ``Description.utterances``."""

    seconds: float
    rate: int
    channels: int
    format: str
    level_dbfs: float
    peak: float
    clipped: int
    content: str


def _sound(synthesize: Synthesizer | None, utterance_id: str, path: str, start: float, end: float) -> _Sound | str:
    """Decode an utterance at its own rate; return its properties, or what is wrong with it."""
    if synthesize is not None:
        return _measure(synthesize(utterance_id), SYNTHESIS_RATE, 1, "synthesised")
    first, last = (None if np.isnan(time) else time for time in (start, end))
    try:
        samples, properties = read_at_own_rate(path, first, last)
    except AudioFault as fault:
        return str(fault)
    return _measure(full_scale(samples), properties.rate, properties.channels, properties.format)


def _measure(samples: NDArray[np.float32], rate: int, channels: int, kind: str) -> _Sound:
    level, peak = measure(samples)
    return _Sound(
        seconds=len(samples) / rate,
        rate=rate,
        channels=channels,
        format=kind,
        level_dbfs=level,
        peak=peak,
        clipped=int(np.count_nonzero(np.abs(samples) >= CLIPPED)) if peak >= CLIPPED else 0,
        content=hashlib.blake2b(np.ascontiguousarray(samples, dtype="<f4").data, digest_size=8).hexdigest(),
    )


def _size(utterances: pd.DataFrame) -> dict[str, Any]:
    seconds = utterances["seconds"]
    speakers = utterances[["speaker", "gender"]].drop_duplicates()
    known = speakers["speaker"][speakers["gender"] != "unknown"]
    speakers = speakers[(speakers["gender"] != "unknown") | ~speakers["speaker"].isin(known)]
    sessions = utterances["session"][utterances["session"] != ""]
    return {
        "utterances": len(utterances),
        "hours": float(seconds.sum()) / 3600,
        "shortest_seconds": float(seconds.min()),
        "shortest_utterance": str(utterances["utterance_id"].iloc[seconds.argmin()]),
        "median_seconds": float(seconds.median()),
        "longest_seconds": float(seconds.max()),
        "longest_utterance": str(utterances["utterance_id"].iloc[seconds.argmax()]),
        "speakers": int(utterances["speaker"].nunique()),
        "speakers_by_gender": _counted(speakers["gender"], GENDERS),
        "speakers_of_several_genders": sorted(speakers["speaker"][speakers["speaker"].duplicated()].unique()),
        "utterances_by_session": _counted(sessions, sorted(set(sessions))),
    }


def _audio(utterances: pd.DataFrame) -> dict[str, Any]:
    """Count utterances by properties of their files and by their levels."""
    return {
        **{
            name: {str(kind): count for kind, count in sorted(Counter(utterances[column].tolist()).items())}
            for name, column in (("sample_rates", "rate"), ("channels", "channels"), ("formats", "format"))
        },
        "median_level_dbfs": float(utterances["level_dbfs"].median()),
        "warnings": level_warnings(utterances["utterance_id"].tolist(), utterances[["level_dbfs", "peak"]].to_numpy()),
        "quiet_utterances": int((utterances["level_dbfs"] < QUIET).sum()),
        "clipped_utterances": int((utterances["clipped"] > 0).sum()),
        "clipped_samples": int(utterances["clipped"].sum()),
    }


def _classes(utterances: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    groups = dict(iter(utterances.groupby("label")))
    return [
        {
            "class": name,
            "utterances": len(rows),
            "share": len(rows) / len(utterances),
            "hours": float(rows["seconds"].sum()) / 3600,
            "speakers": int(rows["speaker"].nunique()),
            "by_gender": _counted(rows["gender"], GENDERS),
        }
        for name in classes
        for rows in [groups.get(name, utterances.iloc[:0])]
    ]


@dataclass(frozen=True, eq=False)
class _Votes:
    """Votes of the annotators.

    Args:
        over: Which utterances these are, in words.
        ids: The U utterance ids.
        counts: (U, K) votes per category, those outside the classes included.
        annotations: One row per vote, as ``human_ceiling`` accepts them.
        classes: The corpus's classes, as named in ``annotations``.
    """

    over: str
    ids: list[str]
    counts: NDArray[np.int64]
    annotations: pd.DataFrame
    classes: tuple[str, ...]


def _votes(corpus: Corpus) -> _Votes | None:
    """Return the votes of the annotations or, without these, of the table; None if there are none."""
    if corpus.annotations is not None:
        said = corpus.annotations[~corpus.annotations["is_self"].astype(bool)]
        ids = sorted(set(said["utterance_id"]))
        categories = [*corpus.classes, *sorted(set(said["label"]) - set(corpus.classes))]
        if ids:
            counts = np.array(count_votes(said, ids, categories)[0], dtype=np.int64)
            over = "all annotated utterances, those outside the classes included"
            return _Votes(over, ids, counts, said, corpus.classes)
    voted = corpus.table["votes"].notna().to_numpy()
    if not voted.any():
        return None
    ids = list(corpus.table["utterance_id"][voted])
    votes, other = np.array(corpus.table["votes"][voted].tolist(), dtype=np.int64), corpus.other_votes[voted]
    # Classes are numbered here, because one of them may have the name used for votes outside the classes.
    numbers = tuple(map(str, range(len(corpus.classes))))
    annotations = anonymous_annotations(ids, votes, numbers, other)
    over = "utterances of the classes that have votes"
    return _Votes(over, ids, np.column_stack([votes, other]), annotations, numbers)


def _vote_columns(corpus: Corpus, votes: _Votes | None) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Return the stratum of each row of the table, and the entropy of its votes for the classes."""
    known = {} if votes is None else dict(zip(votes.ids, strata(votes.counts), strict=True))
    entropy = np.full(len(corpus), np.nan)
    if (voted := corpus.table["votes"].notna().to_numpy()).any():
        entropy[voted] = vote_entropy(np.array(corpus.table["votes"][voted].tolist(), dtype=np.int64))
    return np.array([known.get(utterance_id) for utterance_id in corpus.table["utterance_id"]], dtype=object), entropy


def _agreement(corpus: Corpus, votes: _Votes, utterances: pd.DataFrame) -> dict[str, Any]:
    each = votes.counts.sum(axis=1)
    entropy = utterances["entropy"].dropna()
    stratum = Counter(strata(votes.counts))
    return {
        "over": votes.over,
        "utterances": len(each),
        "votes": int(each.sum()),
        "votes_per_utterance": {"min": int(each.min()), "median": float(np.median(each)), "max": int(each.max())},
        "strata": {name: stratum[name] / len(each) for name in STRATA},
        "fleiss_kappa": _defined(fleiss_kappa(votes.counts)),
        "krippendorff_alpha": _defined(krippendorff_alpha(votes.counts)),
        "human_ceiling": _ceiling(human_ceiling(votes.annotations, votes.classes), corpus.classes),
        "self_evaluations": _self_evaluations(corpus),
        "mean_vote_entropy": _defined(float(entropy.mean())),
        "entropy_utterances": len(entropy),
        "most_possible_disagreement": (
            None if corpus.votes is None else float((disagreement(corpus).sum(axis=1) > 0).mean())
        ),
    }


def _ceiling(ceiling: HumanCeiling, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "uar": _defined(ceiling.uar),
        "standard_error": _defined(ceiling.standard_error),
        "accuracy": _defined(ceiling.accuracy),
        "recall": dict(zip(classes, map(_defined, ceiling.recall.values()), strict=True)),
        "pairs": ceiling.pairs,
        "skipped": ceiling.skipped,
        "annotators": ceiling.annotators,
    }


def _self_evaluations(corpus: Corpus) -> dict[str, Any] | None:
    """Compare the speakers' own judgements to the consensus; k categories with the right one among them score 1/k."""
    if corpus.annotations is None:
        return None
    own = corpus.annotations[corpus.annotations["is_self"].astype(bool)]
    own = own.drop_duplicates(["utterance_id", "annotator", "label"])
    consensus = own["utterance_id"].map(corpus.table.set_index("utterance_id")["label"])
    own, consensus = own[consensus.notna()], consensus.dropna()
    if own.empty:
        return None
    hits = (own["label"] == consensus).astype(float)
    credit = hits.groupby([consensus, own["utterance_id"], own["annotator"]], dropna=False).mean()
    return {
        "evaluations": len(credit),
        "accuracy": float(credit.mean()),
        "uar": float(credit.groupby(level=0).mean().mean()),
    }


def _ratings(corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Return mean, sample standard deviation and number of ratings by dimension and class."""
    result: dict[str, dict[str, Any]] = {}
    for dimension in RATINGS:
        if dimension not in corpus.table:
            continue
        values = pd.to_numeric(corpus.table[dimension])
        if values.notna().any():
            by_class = {name: values[corpus.table["label"] == name].dropna() for name in corpus.classes}
            result[dimension] = {
                name: {"mean": _defined(some.mean()), "sd": _defined(some.std()), "utterances": len(some)}
                for name, some in {**by_class, "all": values.dropna()}.items()
            }
    return result


def _folds(corpus: Corpus, seconds: NDArray[np.float64], by: SplitBy) -> dict[str, Any]:
    """Return the test subset of every fold, with its classes and what they lack, or why there are no folds."""
    try:
        first = split(corpus, 1, by)
        folds = [first, *(split(corpus, number, by) for number in range(2, first.count + 1))]
    except UserError as error:
        return {"unit": None, "groups": [], "problem": str(error)}
    speakers = corpus.table["speaker"]
    groups = [
        {
            "speakers": sorted(set(speakers.iloc[fold.test])),
            "utterances": len(fold.test),
            "hours": float(seconds[fold.test].sum()) / 3600,
            "classes": {
                subset: dict(zip(corpus.classes, row, strict=True))
                for subset, row in zip(SUBSETS, class_counts(corpus, fold).tolist(), strict=True)
            },
        }
        for fold in folds
    ]
    unusable = [problem for fold in folds if (problem := one_class(corpus, fold))]
    return {
        "unit": first.unit,
        "groups": groups,
        "problem": None,
        "warnings": [*folds_lines(corpus, folds), *(f"{problem}: no search can use it" for problem in unusable)],
        "last": class_lines(corpus, folds[-1]),
    }


def _duplicates(utterances: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the groups of utterances with equal decoded samples and sample rate."""
    same = utterances[utterances.duplicated(["rate", "content"], keep=False)]
    groups = [rows for _, rows in same.groupby(["rate", "content"], sort=False)]
    return [
        {
            "utterances": rows["utterance_id"].tolist(),
            "speakers": sorted(set(rows["speaker"])),
            "labels": sorted(set(rows["label"])),
            "crosses_speakers": bool(rows["speaker"].nunique() > 1),
            "different_labels": bool(rows["label"].nunique() > 1),
        }
        for rows in groups
    ]


def _counted(values: Iterable[str], names: Iterable[str]) -> dict[str, int]:
    """Count the values in the order of the names; names that do not occur are left out."""
    counts = Counter(values)
    return {name: counts[name] for name in names if counts[name]}


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
