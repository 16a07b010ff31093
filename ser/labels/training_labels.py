"""Labels to train on at a noise level, of the corpus or from its annotators' votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser.corpora.corpus import Corpus
from ser.labels.dawid_skene import fit_dawid_skene
from ser.labels.judgements import judgements_of
from ser.labels.kinds import CONSENSUS, DAWID_SKENE, SOFT, LabelKind, check_labels
from ser.metrics.agreement import soft_labels
from ser.noise import NoisyLabels, corrupt_level
from ser.noise.manifest import Plan, noisy_labels
from ser.noise.recipes import lack_of_votes
from ser.noise.subsets import Rows, subsets_of
from ser.utils.errors import UserError
from ser.utils.hashing import hashed_uniform

TIE = 1e-9
"""Largest difference of two probabilities that count as equal."""
_DEFINITIONS = {
    "plurality": "Labels are the class with the most votes; the rate is their disagreement with the corpus's label.",
    "dawid_skene": "Labels are the most probable class by the model of Dawid and Skene (1979), fitted to each subset "
    "alone; the rate is their disagreement with the corpus's label.",
    "soft": "Losses learn the distribution of the votes; the rate is the disagreement of its largest class with the "
    "corpus's label.",
}


def training_labels(corpus: Corpus, kind: LabelKind, level: str, seed: int, rows: Rows = None) -> NoisyLabels:
    """Return the labels to train on, and the truth to score against, which is the corpus's label for every kind.

    ``consensus`` are the corpus's labels with the noise of the level. All others are made from votes, for each subset
    from its own votes alone: ``plurality``, the class with the most votes; ``dawid_skene``, the class with the
    largest posterior; ``soft``, the shares of the votes, and the plurality where one label is needed. Ties are broken
    by a hash of the utterance id. Rows outside the subsets keep the corpus's label.

    Args:
        corpus: N utterances.
        kind: Kind of labels.
        level: Noise level; ``clean`` with all kinds but ``consensus``.
        seed: Seed of the noise.
        rows: Rows that are trained on or selected by, as for ``ser.noise.corrupt``.

    Returns:
        The labels; their manifest's ``labels`` says of which kind they are and, by subset, from what they were made.

    Raises:
        UserError: The corpus does not support the level or lacks votes; or as for ``check_labels``.
        DataErrors: As for ``judgements_of``.

    Example:
        >>> from ser.corpora import load
        >>> made = training_labels(load("synthetic"), "dawid_skene", "clean", 0, {"train": range(480)})
        >>> made.manifest["labels"]["subsets"]["train"]
        {'votes': 1440, 'votes_outside': 0, 'annotators': 3, 'iterations': 37, 'ties': 0}
    """
    check_labels(kind, level)
    if kind == CONSENSUS:
        return corrupt_level(corpus, level, seed, rows)
    if corpus.votes is None:
        raise UserError(
            f"--labels {kind}: {lack_of_votes(corpus)}. Train on --labels consensus, or leave utterances without votes "
            "out with --exclude FILE."
        )
    subsets = subsets_of(rows, len(corpus))
    labels, facts = corpus.labels.copy(), {}
    for name, positions in subsets.items():
        labels[positions], facts[name] = _aggregated(corpus, kind, positions)
    plan = Plan(level, kind, _DEFINITIONS[kind], None)
    made = noisy_labels(
        corpus, plan, seed, subsets, labels, truth=corpus.labels, labels_from={"kind": kind, "subsets": facts}
    )
    return replace(made, targets=soft_labels(corpus.votes)) if kind == SOFT else made


def labels_line(manifest: Mapping[str, Any]) -> str:
    """Describe labels from votes in a line for people.

    Args:
        manifest: Manifest of ``training_labels``, of a kind other than ``consensus``.

    Example:
        >>> from ser.corpora import load
        >>> labels_line(training_labels(load("synthetic"), "plurality", "clean", 0, {"train": range(480)}).manifest)
        'plurality: 1,440 votes on 480 train utterances, 0 ties, 0.00% other labels than the corpus'
    """
    parts = []
    for name, facts in manifest["labels"]["subsets"].items():
        subset = manifest["parts"][name]
        of = f" of {facts['annotators']:,} annotators" if "annotators" in facts else ""
        outside = f" and {facts['votes_outside']:,} for no class" if facts["votes_outside"] else ""
        parts.append(
            f"{facts['votes']:,} votes{of}{outside} on {subset['utterances']:,} {name} utterances, "
            f"{facts['ties']:,} ties, {subset['rate']:.2%} other labels than the corpus"
        )
    return f"{manifest['labels']['kind']}: {'; '.join(parts)}"


def _aggregated(corpus: Corpus, kind: LabelKind, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return the labels of some rows, and from what they were made."""
    assert corpus.votes is not None
    facts: dict[str, Any] = {}
    if kind == DAWID_SKENE:
        judged = judgements_of(corpus, rows)
        fitted = fit_dawid_skene(judged, len(rows), len(corpus.classes))
        facts = {"annotators": len(judged.annotators), "iterations": fitted.iterations}
        shares, votes, outside = fitted.posteriors, len(judged.label), judged.outside
    else:
        shares, votes = soft_labels(corpus.votes[rows]), int(corpus.votes[rows].sum())
        outside = int(corpus.other_votes[rows].sum())
    labels, ties = _largest(shares, list(corpus.table["utterance_id"].iloc[rows]))
    return labels, {"votes": votes, "votes_outside": outside, **facts, "ties": ties}


def _largest(shares: NDArray[np.float64], ids: list[str]) -> tuple[NDArray[np.int64], int]:
    """Return the class of the largest share of each row, one of several by a hash of the id, and the number of ties."""
    tied = shares >= shares.max(axis=1, keepdims=True) - TIE
    candidates = tied.sum(axis=1)
    chosen = np.floor(hashed_uniform(0, "labels.tie", ids) * candidates)
    labels = np.argmax(np.cumsum(tied, axis=1) > chosen[:, None], axis=1)
    return labels.astype(np.int64), int((candidates > 1).sum())
