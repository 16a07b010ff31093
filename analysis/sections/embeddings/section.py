"""What the networks have learnt to put together: python analysis/embeddings.py.

The embeddings of utterances that a network was not trained on, in the plane by t-SNE, coloured by emotion and gender;
and how often an embedding's nearest neighbours have its emotion, gender and speaker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.common.label_flips import GENDER, has_gender
from analysis.common.methods import Chosen, Method, choose_methods, foremost, reference_of
from analysis.common.records import Records, RecordsOptions, open_records
from analysis.common.section import NamedFigure, NamedTable, Section, publish
from analysis.sections.embeddings.figures import draw_embeddings
from analysis.sections.embeddings.projection import LEAST, NEIGHBOURS, neighbour_agreement, perplexity_of, tsne
from ser.checkpoint import open_checkpoint
from ser.features.store import open_store
from ser.training.embeddings import extractor
from ser.utils.command_line import parse
from ser.utils.errors import DataErrors, UserError, unknown_name
from ser.utils.hashing import hashed_uniform
from study.tracking.searches import make_console
from study.tracking.trained_runs import find_trial, newest_of

METHODS = 2
"""Networks at a level: the reference and the best other."""
MOST = 2000
"""Utterances; of more, so many are drawn."""
EMOTION, SPEAKER = "emotion", "speaker"


@dataclass(frozen=True)
class EmbeddingsOptions(RecordsOptions):
    """Draws embeddings of unseen utterances, coloured by emotion and gender."""

    noise: tuple[str, ...] = ()
    """Noise levels; default the one with the most wrong labels."""
    reference: str | None = None
    """Search space that is drawn beside the best other; default cross_entropy where it was searched."""
    output: Path = Path("results") / "embeddings"
    """Folder for the table and figures."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings of one network.

    Args:
        vectors: (n, E).
        about: Attribute (``emotion``, ``gender``, ``speaker``) → the n names; those that are not known at all are
            left out.
        of: Utterances of the part, of which n were drawn.
    """

    vectors: NDArray[np.float64]
    about: Mapping[str, Sequence[str]]
    of: int


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(EmbeddingsOptions)
    matplotlib.use("agg")
    publish(section(open_records(options), options.noise, options.reference), options.output, make_console())
    return 0


def section(records: Records, noise: Sequence[str] = (), reference: str | None = None) -> Section:
    """The section of the report. Networks predict, so that it takes about as long as ``study/evaluate.py`` on each.

    Args:
        records: Of the experiment.
        noise: Noise levels; none is the one with the most wrong labels.
        reference: Search space that is drawn beside the best other; None is cross entropy where it was searched.

    Raises:
        UserError: No level or space has the name asked for.
    """
    chosen = choose_methods(records)
    against = reference_of(chosen.methods, reference)
    for level in noise:
        if chosen.methods and level not in chosen.levels:
            raise unknown_name("--noise", level, chosen.levels)
    sentences, figures, rows = [], [], []
    missing = [*chosen.missing]
    for level in noise or chosen.levels[-1:]:
        panels = {}
        for method in foremost(chosen, level, against, METHODS):
            try:
                embedded = embed(records, method, chosen.subset)
            except DataErrors as faults:
                missing.append(f"No embeddings of {method}: {str(faults).splitlines()[0]}")
                continue
            except UserError as error:
                missing.append(f"No embeddings of {method}: {error}")
                continue
            agreement = neighbour_agreement(embedded.vectors, embedded.about)
            sentences.append(_sentence(method, agreement))
            rows.append(agreement.assign(noise=method.noise, space=method.space, trial=method.trial, **_size(embedded)))
            panels[method] = embedded
        if panels and any(name in panels[method].about for method in panels for name in (EMOTION, GENDER)):
            figures.append(_figure(level, panels, chosen))
    notes = [
        *chosen.notes,
        "t-SNE keeps neighbours together and little else: distances between clusters, their sizes and their densities "
        "are not to be read. The shares of neighbours are computed on the embeddings themselves, not on the drawing.",
    ]
    title = f"What the networks put together ({chosen.scored.removesuffix(', true labels')})"
    tables = (_table(pd.concat(rows, ignore_index=True)),) if rows else ()
    return Section("embeddings", title, tuple(sentences), tables, tuple(figures), tuple(notes), tuple(missing))


def embed(records: Records, method: Method, part: str) -> Embedded:
    """The embeddings of one trial's unseen utterances: of its lowest seed and fold.

    Args:
        records: Of the experiment.
        method: Whose trial.
        part: ``test`` or ``validation``.

    Raises:
        UserError: The trial's folder, its checkpoint, the corpus or its audio is not on this machine, or there are
            too few utterances.
    """
    run_id = method.runs[0].run_id
    utterances = records.utterances(run_id)
    if utterances is None or (utterances["subset"] == part).sum() < LEAST:
        raise UserError(f"run {run_id} has no table of at least {LEAST} utterances of the {part} part.")
    table = utterances[utterances["subset"] == part]
    keys = hashed_uniform(0, "embeddings", table["utterance_id"])
    drawn = table.iloc[np.sort(np.argsort(keys, kind="stable")[:MOST])]

    trial = find_trial(run_id, records.client, records.uri)
    checkpoint = open_checkpoint(newest_of(run_id, trial).checkpoint)
    corpus = trial.load_corpus()
    checkpoint.check_corpus(corpus)
    store = open_store(corpus, extractor(checkpoint.config), trial.features)
    rows = pd.Index(corpus.table["utterance_id"]).get_indexer(pd.Index(drawn["utterance_id"].astype(object)))
    vectors = checkpoint.embed(store, rows.astype(np.int64))

    about = {EMOTION: drawn["label"].fillna("unknown")} if drawn["label"].notna().any() else {}
    if has_gender(drawn):
        about[GENDER] = drawn["gender"]
    about[SPEAKER] = drawn["speaker"]
    return Embedded(vectors, {name: column.astype(str).tolist() for name, column in about.items()}, len(table))


def _size(embedded: Embedded) -> dict[str, int]:
    return {"utterances": len(embedded.vectors), "of": embedded.of}


def _sentence(method: Method, agreement: pd.DataFrame) -> str:
    told = [
        f"its {row['attribute']} in {row['same']:.0%} ({row['chance']:.0%} by chance)"
        for row in agreement.to_dict("records")
    ]
    return (
        f"{method.noise}, {method.space}: the {NEIGHBOURS} nearest neighbours of an utterance have {', '.join(told)}."
    )


def _figure(level: str, panels: Mapping[Method, Embedded], chosen: Chosen) -> NamedFigure:
    drawn = {
        method.space: (
            tsne(embedded.vectors),
            {name: embedded.about[name] for name in (EMOTION, GENDER) if name in embedded.about},
        )
        for method, embedded in panels.items()
    }
    counts = [len(embedded.vectors) for embedded in panels.values()]
    size = f"n = {counts[0]:,}, perplexity {perplexity_of(counts[0]):.0f}"
    return NamedFigure(
        f"embeddings-{level.replace(':', '-')}",
        f"Embeddings at {level} in the plane by t-SNE ({size}): {chosen.subset} part.",
        f"Points in the plane for {' and '.join(drawn)}, coloured by {' and '.join(next(iter(drawn.values()))[1])}.",
        draw_embeddings(drawn),
    )


def _table(rows: pd.DataFrame) -> NamedTable:
    data = rows[["noise", "space", "trial", "utterances", "of", "attribute", "same", "chance"]]
    text = data[["noise", "space"]].copy()
    text["utterances"] = [
        f"{count:,}" if count == total else f"{count:,} of {total:,}"
        for count, total in zip(data["utterances"], data["of"], strict=True)
    ]
    text["neighbours have the same"] = data["attribute"]
    text["share"] = [f"{share:.0%}" for share in data["same"]]
    text["by chance"] = [f"{share:.0%}" for share in data["chance"]]
    caption = f"How often the {NEIGHBOURS} nearest neighbours, by cosine, have the same emotion, gender and speaker"
    return NamedTable("neighbours", caption, data, text)
