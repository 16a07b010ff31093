"""Recipes of label noise: the utterances that can get a wrong label, how likely they do, and their wrong labels."""

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
from ser.noise.crema_d_confusions import crema_d_transition, former_transition
from ser.utils.errors import DataErrors, UserError, unknown_name
from ser.utils.hashing import digest

PAIR_SOURCES = ("the corpus's votes", "CREMA-D's listeners")
MATRIX = "matrix:"


@dataclass(frozen=True)
class Recipe:
    """A recipe of label noise.

    Args:
        eligible: The utterances that can get a wrong label, in words that follow "utterances".
        replacement: Their new label, in words that follow "replaced by".
        chances: corpus → (N, C) relative chance of each class as the new label, 0 for the utterance's own class. The
            sum of a row is the relative chance of a noise flip: an utterance with 0 is not eligible.
            Raises ``UserError`` where the corpus lacks what the recipe needs.
        note: corpus → further facts for the reader of a result, or nothing.
    """

    eligible: str
    replacement: str
    chances: Callable[[Corpus], NDArray[np.float64]]
    note: Callable[[Corpus], str] = lambda corpus: ""

    @property
    def definition(self) -> str:
        """Define the noise rate in a sentence."""
        return (
            "Noise rate is the share of the subset's utterances whose consensus label was replaced by "
            f"{self.replacement}; eligible are utterances {self.eligible}."
        )


def disagreement(corpus: Corpus) -> NDArray[np.float64]:
    """Return the chances of disagreement noise: a vote that dissents from the consensus label, drawn by its count.

    All utterances with a dissenting vote are equally likely to get a wrong label.

    Raises:
        UserError: If not every utterance has votes.
    """
    dissent = _dissent(corpus, "disagreement")
    return np.asarray(dissent / np.maximum(dissent.sum(axis=1, keepdims=True), 1))


def human(corpus: Corpus) -> NDArray[np.float64]:
    """Return the chances of confusion-matrix noise (CREMA-D listeners); often confused classes flip more often.

    Source: Cao et al., CREMA-D, IEEE Trans. Affective Computing 2014, voice-only votes.

    Raises:
        UserError: If the corpus has utterances of a class that CREMA-D lacks, and that is not merged of its classes.
    """
    return np.asarray(_crema_d(corpus)[corpus.labels] * _others(corpus))


def symmetric(corpus: Corpus) -> NDArray[np.float64]:
    """Return the chances of symmetric noise: all other classes are equally likely."""
    others = _others(corpus)
    return np.asarray(others / np.maximum(others.sum(axis=1, keepdims=True), 1))


def pair(corpus: Corpus) -> NDArray[np.float64]:
    """Return the chances of pair noise: the one class with which the utterance's class is most often confused.

    All utterances are equally likely to get a wrong label.

    Source: "pair flipping", Han et al., Co-teaching, NeurIPS 2018, whose pairs are neighbours in the list of classes.

    Raises:
        UserError: If the corpus has neither votes nor the classes of CREMA-D alone.
    """
    partner, _ = _partners(corpus)
    return np.asarray(np.eye(len(corpus.classes))[partner[corpus.labels]] * _others(corpus))


def matrix(path: Path) -> Recipe:
    """Return the recipe of a transition matrix in a file; classes with a smaller diagonal flip more often.

    Args:
        path: CSV file: the first line names the new classes, the first column the true classes; cells are rates or
            counts, including the diagonal. ``python -m ser.noise`` writes such a file.

    Returns:
        The recipe; its ``chances`` raises ``DataErrors`` if the classes are not those of the corpus.

    Raises:
        UserError: If the file cannot be read.
        DataErrors: If cells are not rates; lists all of them.
    """
    names, rows = _read_matrix(path)

    def chances(corpus: Corpus) -> NDArray[np.float64]:
        faults = [(name, "no row for this class") for name in corpus.classes if name not in rows]
        faults += [(name, "no column for this class") for name in corpus.classes if name not in names]
        faults += [
            (name, "is not a class of the corpus")
            for name in {**rows, **dict.fromkeys(names)}
            if name not in corpus.classes
        ]
        if faults:
            raise DataErrors(f"matrix {path}", faults, f"Corpus {corpus.name!r} has {', '.join(corpus.classes)}.")
        table = np.array([[rows[true][names.index(noisy)] for noisy in corpus.classes] for true in corpus.classes])
        table /= table.sum(axis=1, keepdims=True)
        return np.asarray(table[corpus.labels] * _others(corpus))

    return Recipe(
        "of every class with a diagonal below 1",
        "a class drawn from the matrix's row without its diagonal, classes with a smaller diagonal first",
        chances,
        lambda corpus: f"The matrix is {path.name}, digest {digest([names, rows])}.",
    )


def matrix_digest(path: Path) -> str:
    """Compute the digest of a transition matrix's content.

    Args:
        path: As for ``matrix``.

    Raises:
        UserError: As for ``matrix``.
    """
    return digest(list(_read_matrix(path)))


def recipe_named(name: str) -> Recipe:
    """Return a recipe by its name.

    Args:
        name: One of ``RECIPES``, or ``matrix:FILE``.

    Raises:
        UserError: If the recipe is unknown (names the nearest), or the file is not a transition matrix.
    """
    if name.startswith(MATRIX):
        return matrix(Path(name.removeprefix(MATRIX)).expanduser())
    if name == "instance":  # a recipe of version 0.1
        raise UserError(
            "noise recipe 'instance' has been removed: where all utterances have three votes it is disagreement. Use "
            "disagreement:RATE; studies that began with instance are resumed by version 0.1 alone."
        )
    if name not in RECIPES:
        raise unknown_name("noise recipe", name, [*RECIPES, f"{MATRIX}FILE"])
    return RECIPES[name]


RECIPES: dict[str, Recipe] = {
    "disagreement": Recipe(
        "with at least one vote that dissents from the consensus label",
        "a dissenting annotator's vote, drawn by its count",
        disagreement,
    ),
    "human": Recipe(
        "of every class that CREMA-D's listeners confuse with another one of the set",
        "a class drawn from the confusion matrix of CREMA-D's listeners (voice only), often confused classes first",
        human,
    ),
    "symmetric": Recipe("of every class", "one of the other classes, all equally likely", symmetric),
    "pair": Recipe(
        "of every class that is confused with another",
        "the one class with which theirs is most often confused",
        pair,
        lambda corpus: _pairs_note(corpus),
    ),
}


def lack_of_votes(corpus: Corpus) -> str:
    """Describe how many utterances have no votes, for a corpus whose ``votes`` is None."""
    lacking = sum(votes is None for votes in corpus.table["votes"])
    if lacking == len(corpus):
        return f"corpus {corpus.name!r} has no votes"
    return f"{lacking} of the {len(corpus)} utterances of corpus {corpus.name!r} have no votes"


def _others(corpus: Corpus) -> NDArray[np.float64]:
    """Return (N, C) 1 at the other classes that the corpus has utterances of; noise lands on no other class."""
    return np.asarray((1.0 - np.eye(len(corpus.classes))[corpus.labels]) * _occurring(corpus))


def _occurring(corpus: Corpus) -> NDArray[np.bool_]:
    """Return (C,) whether any utterance is of the class."""
    return np.asarray(np.bincount(corpus.labels, minlength=len(corpus.classes)) > 0)


def _crema_d(corpus: Corpus) -> NDArray[np.float64]:
    """Return (C, C) the confusions of CREMA-D's listeners among the classes that occur, zeros for the others."""
    if corpus.former:
        return former_transition(corpus.classes)
    found = np.flatnonzero(_occurring(corpus))
    transition = np.zeros((len(corpus.classes), len(corpus.classes)))
    transition[np.ix_(found, found)] = crema_d_transition(
        [corpus.classes[index] for index in found], corpus.composition
    )
    return transition


def _dissent(corpus: Corpus, recipe: str) -> NDArray[np.float64]:
    """Return (N, C) votes for the other classes that occur."""
    if corpus.votes is None:
        raise UserError(
            f"noise recipe {recipe!r}: {lack_of_votes(corpus)}. Use human:RATE or symmetric:RATE, which need none."
        )
    return np.asarray(corpus.votes * _others(corpus))


def _partners(corpus: Corpus) -> tuple[NDArray[np.int64], str]:
    """Return (C,) the class with which each is most often confused (itself where there is none), and the source."""
    own = np.eye(len(corpus.classes))
    if corpus.votes is None:
        transition, source = _crema_d(corpus), PAIR_SOURCES[1]
    else:
        votes = [corpus.votes[corpus.labels == index].sum(axis=0) for index in range(len(own))]
        transition, source = np.array(votes), PAIR_SOURCES[0]
    confused = transition * (1 - own) * _occurring(corpus)
    return np.where(confused.sum(axis=1) > 0, confused.argmax(axis=1), np.arange(len(own))), source


def _pairs_note(corpus: Corpus) -> str:
    partner, source = _partners(corpus)
    pairs = [f"{name} → {corpus.classes[other]}" for name, other in zip(corpus.classes, partner, strict=True)]
    return f"Pairs by {source}: {', '.join(pairs)}."


def _read_matrix(path: Path) -> tuple[list[str], dict[str, list[float]]]:
    """Read the names of the columns, and the rows by name."""
    try:
        lines = [
            [cell.strip() for cell in line] for line in csv.reader(io.StringIO(read_text(path), newline="")) if line
        ]
    except csv.Error as error:
        raise UserError(f"matrix {path} is not a CSV file: {error}. {_MATRIX_ADVICE}") from error
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
            faults.append((name, f"expected {len(names)} non-negative rates or counts with a sum above 0, got {cells}"))
        rows[name] = rates
    if faults or not rows:
        raise DataErrors(f"matrix {path}", faults or [("rows", "the file has none")], _MATRIX_ADVICE)
    return names, rows


_MATRIX_ADVICE = "Expected: a first line ',CLASS,CLASS,…', then a line 'CLASS,RATE,RATE,…' for each true class."
