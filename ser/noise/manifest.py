"""Noisy labels and their manifest, a JSON-able description of the noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser.corpora.corpus import Corpus
from ser.noise.subsets import Subsets
from ser.utils.hashing import digest

CONSENSUS: Mapping[str, Any] = {"kind": "consensus"}
"""``labels`` of the manifest of a corpus's own labels."""


@dataclass(frozen=True)
class Plan:
    """Noise to put on a corpus for a level.

    Args:
        level: As requested.
        recipe: Name of the recipe, or of the level where none is used.
        definition: Definition of the rate.
        rate: Share of a subset's utterances, or None.
        eligible_share: Where set, a share of the eligible utterances that replaces the rate.
        note: Further facts for the reader.
    """

    level: str
    recipe: str
    definition: str
    rate: float | None
    eligible_share: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class NoisyLabels:
    """Labels of a corpus at one noise level.

    The manifest is JSON-able; counts and rates cover the utterances of the subsets; None stands for no value:

    * ``level``, ``recipe``, ``definition`` of the rate, ``note`` (further facts for the reader, or empty)
    * ``rate_asked``, ``eligible_share_asked`` (where it replaced the rate), ``rate_realised``, ``eligible_share``,
      ``truth_known`` (utterances)
    * ``parts``: subset → ``utterances``, ``truth_known``, ``flipped``, ``rate``, ``most_possible`` (rate)
    * ``transition_counts``, ``transition_rates``: (C, C), true × noisy in the order of ``classes``; rates are
      row-normalised, zeros for a class without utterances
    * ``rate_by_class`` (by true class), ``rate_by_speaker``: None where there are no utterances
    * ``seed``, ``classes``, ``corpus``, ``corpus_digest``, ``digest`` (of all ids and noisy labels)
    * ``labels``: ``kind``, which labels these are (``ser.labels``; without it, in manifests of earlier versions,
      ``consensus``); from annotators' votes also ``subsets``: subset → ``votes``, ``votes_outside`` (votes for other
      categories, which do not count), ``ties``, and for ``dawid_skene`` ``annotators`` and ``iterations``

    Args:
        labels: (N,) class names to train on, aligned with ``corpus.table``.
        truth: (N,) class names that count as true: the consensus labels; at level ``given`` the corpus's true labels,
            or None.
        manifest: Description of the noise.
        targets: (N, C) distributions that losses learn instead of the labels; None for the labels.
    """

    labels: NDArray[np.object_]
    truth: NDArray[np.object_]
    manifest: dict[str, Any]
    targets: NDArray[np.float64] | None = None


def noisy_labels(
    corpus: Corpus,
    plan: Plan,
    seed: int,
    subsets: Subsets,
    noisy: NDArray[np.int64],
    *,
    truth: NDArray[np.int64],
    eligible: NDArray[np.bool_] | None = None,
    labels_from: Mapping[str, Any] = CONSENSUS,
) -> NoisyLabels:
    """Convert class indices to names, and describe them in a manifest.

    Args:
        corpus: N utterances.
        plan: The planned noise.
        seed: Seed of the noise draw.
        subsets: Row positions by subset.
        noisy: (N,) class indices to train on.
        truth: (N,) true class indices, −1 where unknown.
        eligible: (N,) True for utterances that can get a wrong label; None where this does not apply.
        labels_from: ``labels`` of the manifest.
    """
    names = np.array([*corpus.classes, None], dtype=object)  # −1 is None
    rows = np.concatenate(list(subsets.values()))
    known = rows[truth[rows] >= 0]
    wrong = noisy != truth
    against_truth = _against_truth(corpus, noisy, truth, known)
    manifest = {
        "level": plan.level,
        "recipe": plan.recipe,
        "definition": plan.definition,
        "note": plan.note,
        "rate_asked": plan.rate,
        "eligible_share_asked": plan.eligible_share,
        "rate_realised": _share(wrong, known),
        "eligible_share": None if eligible is None else _share(eligible, rows),
        "truth_known": len(known),
        "parts": {name: _subset_summary(positions, truth, wrong, eligible) for name, positions in subsets.items()},
        **(against_truth if len(known) else dict.fromkeys(against_truth)),
        "seed": int(seed),
        "classes": list(corpus.classes),
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "digest": digest(dict(zip(corpus.table["utterance_id"], names[noisy], strict=True))),
        "labels": dict(labels_from),
    }
    return NoisyLabels(names[noisy], names[truth], manifest)


def _share(property_: NDArray[np.bool_], rows: NDArray[np.int64]) -> float | None:
    return int(property_[rows].sum()) / len(rows) if len(rows) else None


def _subset_summary(
    positions: NDArray[np.int64],
    truth: NDArray[np.int64],
    wrong: NDArray[np.bool_],
    eligible: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    known = positions[truth[positions] >= 0]
    return {
        "utterances": len(positions),
        "truth_known": len(known),
        "flipped": int(wrong[known].sum()) if len(known) or not len(positions) else None,
        "rate": _share(wrong, known),
        "most_possible": None if eligible is None else _share(eligible, positions),
    }


def _against_truth(
    corpus: Corpus, noisy: NDArray[np.int64], truth: NDArray[np.int64], known: NDArray[np.int64]
) -> dict[str, Any]:
    """Compare the noisy with the true labels of the rows ``known``: transition matrix, rates by class and speaker."""
    speakers, speaker = np.unique(corpus.table["speaker"].to_numpy(dtype=object), return_inverse=True)
    transition = np.zeros((len(corpus.classes), len(corpus.classes)), dtype=np.int64)
    np.add.at(transition, (truth[known], noisy[known]), 1)

    def rates(groups: Sequence[str], group: NDArray[np.int64]) -> dict[str, float | None]:
        totals = np.bincount(group[known], minlength=len(groups)).tolist()
        flips = np.bincount(group[known[noisy[known] != truth[known]]], minlength=len(groups)).tolist()
        return {name: flips[i] / totals[i] if totals[i] else None for i, name in enumerate(groups)}

    return {
        "transition_counts": transition.tolist(),
        "transition_rates": (transition / np.maximum(transition.sum(axis=1, keepdims=True), 1)).tolist(),
        "rate_by_class": rates(corpus.classes, truth),
        "rate_by_speaker": rates(speakers.tolist(), speaker),
    }
