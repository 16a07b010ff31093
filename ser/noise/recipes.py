"""Recipes of label noise: which utterances can get a wrong label, how readily, and which label that is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser.corpora.corpus import Corpus
from ser.corpora.source_files import read_text
from ser.noise.listeners import human_transition
from ser.utils.errors import DataErrors, UserError, unknown_name
from ser.utils.hashing import digest

PAIR_SOURCES = ("the corpus's own votes", "CREMA-D's listeners")
MATRIX = "matrix:"


@dataclass(frozen=True)
class Recipe:
    """A way to make labels wrong.

    Args:
        eligible: Which utterances can flip, to follow "utterances".
        replacement: What their label becomes, to follow "replaced by".
        chances: corpus → (N, C) relative chance of each class as the new label, 0 for the utterance's own. A
            row's sum says how readily the utterance flips: at 0 it is not eligible.
            Raises ``UserError`` where the corpus lacks what the recipe needs.
        note: corpus → what else the reader of a result must know, or nothing.
    """

    eligible: str
    replacement: str
    chances: Callable[[Corpus], NDArray[np.float64]]
    note: Callable[[Corpus], str] = lambda corpus: ""

    @property
    def definition(self) -> str:
        """What the noise rate is a rate of."""
        return (
            "Noise rate is the share of the part's utterances whose consensus label was replaced by "
            f"{self.replacement}; eligible are utterances {self.eligible}."
        )


def disagreement(corpus: Corpus) -> NDArray[np.float64]:
    """A vote that dissents from the consensus label, drawn with multiplicity; all that have one flip alike.

    Raises:
        UserError: Not every utterance has votes.
    """
    dissent = _dissent(corpus, "disagreement")
    return np.asarray(dissent / np.maximum(dissent.sum(axis=1, keepdims=True), 1))


def instance(corpus: Corpus) -> NDArray[np.float64]:
    """A vote that dissents, likewise; the larger the share of dissent, the more readily the utterance flips.

    Noise then depends on the instance: what people find ambiguous is mislabelled first.

    Raises:
        UserError: Not every utterance has votes.
    """
    dissent = _dissent(corpus, "instance")
    assert corpus.votes is not None
    return np.asarray(dissent / (corpus.votes.sum(axis=1) + corpus.other_votes)[:, None])


def human(corpus: Corpus) -> NDArray[np.float64]:
    """What listeners hear in place of the class; often misheard classes flip more readily.

    Source: Cao et al., CREMA-D, IEEE Trans. Affective Computing 2014, voice-only votes.

    Raises:
        UserError: A class name stands for no known emotion.
    """
    return np.asarray(human_transition(corpus.classes)[corpus.labels] * _others(corpus))


def symmetric(corpus: Corpus) -> NDArray[np.float64]:
    """Any other class, all equally likely."""
    return _others(corpus) / (len(corpus.classes) - 1)


def pair(corpus: Corpus) -> NDArray[np.float64]:
    """The one class that the utterance's class is most often taken for; all flip alike.

    Source: "pair flipping", Han et al., Co-teaching, NeurIPS 2018, whose pairs are neighbours in the list of classes.

    Raises:
        UserError: The corpus has no votes, and a class name stands for no known emotion.
    """
    partner, _ = _partners(corpus)
    return np.asarray(np.eye(len(corpus.classes))[partner[corpus.labels]] * _others(corpus))


def matrix(path: Path) -> Recipe:
    """The recipe of a transition matrix in a file; classes that it keeps less often flip more readily.

    Args:
        path: CSV: the first line names the classes that labels become, the first column those that they are;
            cells are rates or counts, as they come, the diagonal included. ``python -m ser.noise`` writes such
            a file.

    Returns:
        The recipe; its ``chances`` raises ``DataErrors`` where the classes are not the corpus's.

    Raises:
        UserError: The file cannot be read.
        DataErrors: Cells that are no rates; all are listed.
    """
    names, rows = _read_matrix(path)

    def chances(corpus: Corpus) -> NDArray[np.float64]:
        faults = [(name, "no row for this class") for name in corpus.classes if name not in rows]
        faults += [(name, "no column for this class") for name in corpus.classes if name not in names]
        faults += [
            (name, "is no class of the corpus")
            for name in {**rows, **dict.fromkeys(names)}
            if name not in corpus.classes
        ]
        if faults:
            raise DataErrors(f"matrix {path}", faults, f"Corpus {corpus.name!r} has {', '.join(corpus.classes)}.")
        table = np.array([[rows[true][names.index(noisy)] for noisy in corpus.classes] for true in corpus.classes])
        table /= table.sum(axis=1, keepdims=True)
        return np.asarray(table[corpus.labels] * _others(corpus))

    return Recipe(
        "of every class that the matrix does not keep",
        "a class by the matrix's row, less its diagonal, classes that it keeps less often first",
        chances,
        lambda corpus: f"The matrix is {path.name}, digest {digest([names, rows])}.",
    )


def matrix_digest(path: Path) -> str:
    """Identifies the content of a transition matrix.

    Args:
        path: As for ``matrix``.

    Raises:
        UserError: As for ``matrix``.
    """
    return digest(list(_read_matrix(path)))


def recipe_named(name: str) -> Recipe:
    """A recipe by its name.

    Args:
        name: One of ``RECIPES``, or ``matrix:FILE``.

    Raises:
        UserError: No such recipe, with the nearest; or a file that is no matrix.
    """
    if name.startswith(MATRIX):
        return matrix(Path(name.removeprefix(MATRIX)).expanduser())
    if name not in RECIPES:
        raise unknown_name("noise recipe", name, [*RECIPES, f"{MATRIX}FILE"])
    return RECIPES[name]


RECIPES: dict[str, Recipe] = {
    "disagreement": Recipe(
        "with at least one vote that dissents from the consensus label",
        "a dissenting annotator's vote, drawn with multiplicity",
        disagreement,
    ),
    "human": Recipe(
        "of every class that listeners take for another one of the set",
        "a class that listeners to CREMA-D's voices hear in its place, often misheard classes first",
        human,
    ),
    "symmetric": Recipe("of every class", "one of the other classes, all equally likely", symmetric),
    "pair": Recipe(
        "of every class that is taken for another",
        "the one class that theirs is most often taken for",
        pair,
        lambda corpus: _pairs_told(corpus),
    ),
    "instance": Recipe(
        "with at least one vote that dissents from the consensus label",
        "a dissenting annotator's vote, drawn with multiplicity, utterances with a larger share of dissent first",
        instance,
    ),
}


def lack_of_votes(corpus: Corpus) -> str:
    """Says how many utterances have no votes, of a corpus whose ``votes`` is None."""
    lacking = sum(votes is None for votes in corpus.table["votes"])
    if lacking == len(corpus):
        return f"corpus {corpus.name!r} has no votes"
    return f"{lacking} of the {len(corpus)} utterances of corpus {corpus.name!r} have no votes"


def _others(corpus: Corpus) -> NDArray[np.float64]:
    """(N, C) 0 at the consensus label, else 1."""
    return np.asarray(1.0 - np.eye(len(corpus.classes))[corpus.labels])


def _dissent(corpus: Corpus, recipe: str) -> NDArray[np.float64]:
    """(N, C) votes for classes other than the consensus label."""
    if corpus.votes is None:
        raise UserError(
            f"noise recipe {recipe!r}: {lack_of_votes(corpus)}. Take human:RATE or symmetric:RATE, which need none."
        )
    return np.asarray(corpus.votes * _others(corpus))


def _partners(corpus: Corpus) -> tuple[NDArray[np.int64], str]:
    """(C,) the class that each is most often taken for, its own where for none; and by whom."""
    own = np.eye(len(corpus.classes))
    if corpus.votes is None:
        heard, source = human_transition(corpus.classes), PAIR_SOURCES[1]
    else:
        heard, source = (
            np.array([corpus.votes[corpus.labels == c].sum(axis=0) for c in range(len(own))]),
            PAIR_SOURCES[0],
        )
    misheard = heard * (1 - own)
    return np.where(misheard.sum(axis=1) > 0, misheard.argmax(axis=1), np.arange(len(own))), source


def _pairs_told(corpus: Corpus) -> str:
    partner, source = _partners(corpus)
    pairs = [f"{name} → {corpus.classes[other]}" for name, other in zip(corpus.classes, partner, strict=True)]
    return f"Pairs by {source}: {', '.join(pairs)}."


def _read_matrix(path: Path) -> tuple[list[str], dict[str, list[float]]]:
    """Names of the columns, and the rows by name."""
    try:
        lines = [
            [cell.strip() for cell in line] for line in csv.reader(io.StringIO(read_text(path), newline="")) if line
        ]
    except csv.Error as error:
        raise UserError(f"matrix {path} is no CSV: {error}.") from error
    names = lines[0][1:] if lines else []
    faults = [(name, "column appears more than once") for name in sorted(set(names)) if names.count(name) > 1]
    rows: dict[str, list[float]] = {}
    for name, *cells in lines[1:]:
        if name in rows:
            faults.append((name, "row appears more than once"))
        try:
            rates = [float(cell) for cell in cells]
        except ValueError:
            rates = [math.nan]
        if len(rates) != len(names) or not all(rate >= 0 for rate in rates) or not 0 < sum(rates) < math.inf:
            faults.append(
                (name, f"row is not {len(names)} rates or counts, none negative, with a sum above 0: {cells}")
            )
        rows[name] = rates
    if faults or not rows:
        raise DataErrors(f"matrix {path}", faults or [("rows", "there are none")], _MATRIX_ADVICE)
    return names, rows


_MATRIX_ADVICE = "Expected: a first line ',CLASS,CLASS,…', then a line 'CLASS,RATE,RATE,…' for each true class."
