"""Embeddings of validation or test utterances, in the plane by t-SNE, and the attributes of nearest neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.common.corrected_labels import GENDER, has_gender
from analysis.common.methods import Chosen, Method, choose_methods, choose_reference, top_methods
from analysis.common.records import Records
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, listing, percent
from analysis.options import EmbeddingsOptions as Options
from analysis.sections.embeddings.figures import draw_embeddings
from analysis.sections.embeddings.projection import LEAST, NEIGHBOURS, neighbour_agreement, perplexity_of, tsne
from ser.checkpoint import open_checkpoint
from ser.corpora.names import emotions_in_words
from ser.features.store import open_store
from ser.utils.errors import DataErrors, UserError, unknown_name
from ser.utils.hashing import hashed_uniform
from study.schema import in_words
from study.tracking.trained_runs import find_trial, newest_of

TITLE = "Embeddings"
METHODS = 2
"""Networks per noise level: the reference and the best other one."""
MOST = 1000
"""Largest number of utterances; of more, a random sample of this size is used."""
EMOTION, SPEAKER = "emotion", "speaker"


@dataclass(frozen=True)
class Embedded:
    """Embeddings of one network.

    Args:
        vectors: (n, E).
        about: Attribute (``emotion``, ``gender``, ``speaker``) → its n values; attributes that are unknown for all
            utterances are omitted.
        of: Number of utterances of the subset, of which n were drawn.
    """

    vectors: NDArray[np.float64]
    about: Mapping[str, Sequence[str]]
    of: int


def section(records: Records, options: Options) -> Section:
    """Return the embeddings of the networks; the networks predict, which takes about as long as ``study/evaluate.py``.

    Args:
        records: Records of the experiment.
        options: Noise levels and the reference.

    Raises:
        UserError: If there is no such noise level or space.
    """
    chosen = choose_methods(records)
    reference = choose_reference(records, chosen, options.reference)
    for level in options.noise:
        if chosen.methods and level not in chosen.levels:
            raise unknown_name("--noise", level, chosen.levels)
    sentences, figures, rows = [], [], []
    missing = [*chosen.missing]
    for level in options.noise or chosen.levels[-1:]:
        panels = {}
        failed: dict[str, tuple[str, list[str]]] = {}
        for method in top_methods(chosen, level, reference, METHODS):
            try:
                embedded = embed(records, method, chosen.subset)
            except (DataErrors, UserError) as error:
                reason = str(error).splitlines()[0]
                # Reasons that differ in run and folder alone are one.
                failed.setdefault(re.sub("'[^']*'", "", reason), (reason, []))[1].append(in_words(method.space))
                continue
            agreement = neighbour_agreement(embedded.vectors, embedded.about)
            sentences.append(_sentence(method, agreement))
            rows.append(agreement.assign(noise=method.noise, space=method.space, trial=method.trial, **_size(embedded)))
            panels[method] = embedded
        missing += [f"No embeddings of {listing(names)} at {level}: {reason}" for reason, names in failed.values()]
        if panels and any(name in panels[method].about for method in panels for name in (EMOTION, GENDER)):
            figures.append(_figure(level, panels, chosen))
    notes = [
        *chosen.notes,
        "t-SNE preserves neighbours, but not distances between clusters, their sizes or their densities. The shares of "
        "neighbours are of the embeddings themselves, by cosine.",
    ]
    title = f"{TITLE} ({chosen.scored.removesuffix(', true labels')})"
    tables = (_table(pd.concat(rows, ignore_index=True)),) if rows else ()
    shown = tuple(notes) if rows else ()
    return Section("embeddings", title, tuple(sentences), tables, tuple(figures), shown, tuple(missing))


def embed(records: Records, method: Method, subset: str) -> Embedded:
    """Compute the embeddings of a method's trial, the one with the lowest seed and fold.

    Args:
        records: Records of the experiment.
        method: The method.
        subset: ``test`` or ``validation``.

    Raises:
        UserError: If the trial's folder, its checkpoint, the corpus or its audio is not on this machine, or if there
            are too few utterances.
    """
    run_id = method.runs[0].run_id
    utterances = records.utterances(run_id)
    if utterances is None or (utterances["subset"] == subset).sum() < LEAST:
        raise UserError(f"run {run_id} has no table of at least {LEAST} utterances of the {subset} subset.")
    table = utterances[utterances["subset"] == subset]
    keys = hashed_uniform(0, "embeddings", table["utterance_id"])
    drawn = table.iloc[np.sort(np.argsort(keys, kind="stable")[:MOST])]

    trial = find_trial(run_id, records.client, records.uri)
    checkpoint = open_checkpoint(newest_of(run_id, trial).checkpoint)
    corpus = records.once(("corpus", trial.path.parent.parent), trial.load_corpus)
    checkpoint.check_corpus(corpus)
    store = open_store(corpus, checkpoint.reader_of(corpus, trial.features), trial.features)
    rows = pd.Index(corpus.table["utterance_id"]).get_indexer(pd.Index(drawn["utterance_id"].astype(object)))
    vectors = checkpoint.embed(store, rows.astype(np.int64))

    words = dict(zip(records.classes, emotions_in_words(records.classes), strict=True))
    about = {EMOTION: drawn["label"].map(words).fillna("unknown")} if drawn["label"].notna().any() else {}
    if has_gender(drawn):
        about[GENDER] = drawn["gender"]
    about[SPEAKER] = drawn["speaker"]
    return Embedded(vectors, {name: column.astype(str).tolist() for name, column in about.items()}, len(table))


def _size(embedded: Embedded) -> dict[str, int]:
    return {"utterances": len(embedded.vectors), "of": embedded.of}


def _sentence(method: Method, agreement: pd.DataFrame) -> str:
    shares = [
        f"{percent(row['same'])} have its {row['attribute']} ({percent(row['chance'])} by chance)"
        for row in agreement.to_dict("records")
    ]
    return (
        f"{in_words(method.space)} at {method.noise}: of the {NEIGHBOURS} nearest neighbours of an utterance, "
        f"{listing(shares)}."
    )


def _figure(level: str, panels: Mapping[Method, Embedded], chosen: Chosen) -> NamedFigure:
    drawn = {
        in_words(method.space): (
            tsne(embedded.vectors),
            {name: embedded.about[name] for name in (EMOTION, GENDER) if name in embedded.about},
        )
        for method, embedded in panels.items()
    }
    counts = [len(embedded.vectors) for embedded in panels.values()]
    size = f"{counts[0]:,} utterances of the {chosen.subset} subset, perplexity {perplexity_of(counts[0]):.0f}"
    return NamedFigure(
        f"embeddings-{level.replace(':', '-')}",
        f"Embeddings at {level} in the plane by t-SNE ({size}). Positions have no unit.",
        " ".join(_seen(name, points, about) for name, (points, about) in drawn.items()),
        draw_embeddings(drawn),
    )


def _seen(name: str, points: NDArray[np.float64], about: Mapping[str, Sequence[str]]) -> str:
    """Return how well the attributes of a network's points are separated in the plane."""
    shares = [
        f"{percent(row['same'])} have its {row['attribute']}"
        for row in neighbour_agreement(points, about, metric="euclidean").to_dict("records")
    ]
    return f"{name}: of the {NEIGHBOURS} points nearest to a point, {listing(shares)}."


def _table(rows: pd.DataFrame) -> NamedTable:
    data = rows[["noise", "space", "trial", "utterances", "of", "attribute", "same", "chance"]]
    lines = []
    for (noise, space, count, total), own in data.groupby(["noise", "space", "utterances", "of"], sort=False):
        line = {"noise": noise, "method": in_words(str(space))}
        line["utterances"] = f"{count:,}" if count == total else f"{count:,} of {total:,}"
        for row in own.to_dict("records"):
            line[f"same {row['attribute']}"] = f"{percent(row['same'])} (chance {percent(row['chance'])})"
        lines.append(line)
    caption = f"Share of the {NEIGHBOURS} nearest neighbours of an utterance with the same attribute"
    return NamedTable("neighbours", caption, data, pd.DataFrame(lines).fillna(MISSING), keys=2)
