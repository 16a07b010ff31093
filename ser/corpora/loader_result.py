"""From what a loader found to a corpus: leaves out what is asked for, and lists all faults of the rest."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ser.corpora.corpus import EXCLUDE_ADVICE, Corpus, Synthesizer, relative_paths
from ser.utils.errors import DataErrors, UserError

LONGEST_NAME = 200
MOST_COMPARED = 20_000


@dataclass(frozen=True, eq=False)
class LoaderResult:
    """What a loader found, before anything is left out.

    Args:
        name: The corpus's name.
        where: What was read, to begin a list of faults with, such as ``"corpus 'ravdess' at /data"``.
        rows: Columns as ``Corpus.table``'s, in any order; rows may break its rules. What could not be made a row is
            among ``faults``.
        classes: The C class names, or None for the labels that are left, sorted.
        root: As ``Corpus.root``.
        faults: (utterance id, path or FILE:LINE, what is wrong). Leaving out the name accepts the loss.
        advice: What to do about faults, before the advice to exclude.
        synthesize: As ``Corpus.synthesize``.
        annotations: As ``Corpus.annotations``; may have utterances without a row.
        ratings: As ``Corpus.ratings``; likewise.
        outside: As ``Corpus.outside``, before anything is left out.
    """

    name: str
    where: str
    rows: pd.DataFrame
    classes: tuple[str, ...] | None
    root: Path | None = None
    faults: Sequence[tuple[str, str]] = ()
    advice: str = ""
    synthesize: Synthesizer | None = field(default=None, repr=False)
    annotations: pd.DataFrame | None = field(default=None, repr=False)
    ratings: pd.DataFrame | None = field(default=None, repr=False)
    outside: Mapping[str, int] = field(default_factory=dict)

    def corpus(self, exclude: Sequence[str] = (), before: Sequence[str] = ()) -> Corpus:
        """The corpus less what is to be left out.

        Args:
            exclude: Utterance ids; paths (absolute, or relative to the root), which stand for every utterance cut
                from them; names of faults; or whole lines of a list of faults.
            before: What had been left out already.

        Returns:
            The corpus; its ``excluded`` names the utterances, and the faults that left no utterance.

        Raises:
            UserError: Names that are not there: how many, and the first with the nearest that is.
            DataErrors: What is left has faults; all of them are listed.
        """
        out = self._left_out(exclude)
        kept = self.rows[~self.rows["utterance_id"].isin(out)] if len(self.rows) else self.rows
        faults = [(name, fault) for name, fault in self.faults if name not in out]
        classes = self.classes
        if classes is None:
            named = pd.concat([kept[column] for column in ("label", "true_label") if column in kept])
            classes = tuple(sorted({name for name in named if isinstance(name, str) and name}))
        if faults and kept.empty:
            raise self._faulty(faults)
        if kept.empty and len(self.rows):
            raise UserError(f"corpus {self.name!r}: all of its {len(self.rows)} utterances are left out by --exclude.")
        spoken, rated = (
            None if frame is None else frame[~frame["utterance_id"].isin(out)]
            for frame in (self.annotations, self.ratings)
        )
        try:
            corpus = Corpus(
                self.name,
                kept,
                classes,
                self.root,
                self.synthesize,
                tuple(sorted({*before, *out})),
                spoken,
                rated,
                self.outside,
            )
        except DataErrors as error:
            raise self._faulty([*faults, *error.errors]) from None
        if faults:
            raise self._faulty(faults)
        return corpus

    def _faulty(self, faults: Sequence[tuple[str, str]]) -> DataErrors:
        return DataErrors(self.where, faults, " ".join(part for part in (self.advice, EXCLUDE_ADVICE) if part))

    def _left_out(self, exclude: Sequence[str]) -> set[str]:
        """Utterance ids, and names of faults that are no utterance's."""
        if not exclude:
            return set()
        lookup: dict[str, set[str]] = {name: {name} for name, _ in self.faults}
        if self.annotations is not None:
            # Also utterances outside the classes, so that one list serves every set of classes.
            lookup |= {id_: {id_} for id_ in self.annotations["utterance_id"]}
        if len(self.rows):
            ids = list(self.rows["utterance_id"])
            lookup |= {id_: {id_} for id_ in ids}
            paths = list(self.rows["path"]) if "path" in self.rows else [""] * len(ids)
            for column in (paths, relative_paths(paths, self.root)):
                for id_, path in zip(ids, column, strict=True):
                    if path:
                        lookup.setdefault(path, set()).add(id_)
        names = [_name_in(line, lookup) for line in exclude]
        if unknown := [name for name in names if name not in lookup]:
            first = unknown[0][:LONGEST_NAME]
            candidates = lookup if len(lookup) <= MOST_COMPARED else ()
            nearest = (difflib.get_close_matches(first, candidates, n=1) or sorted(lookup))[0]
            raise UserError(
                f"{len(unknown)} of {len(names)} names to exclude are not in corpus {self.name!r}, "
                f"the first: {first!r}. The nearest there is {nearest!r}."
            )
        return set().union(*(lookup[name] for name in names))


def _name_in(line: str, known: Collection[str]) -> str:
    """The name that a line of a list of faults, "name: what is wrong", begins with; names may have colons as well."""
    pieces = line.split(": ")
    heads = (": ".join(pieces[:count]) for count in range(len(pieces), 0, -1))
    return next((head for head in heads if head in known), line)


def without(corpus: Corpus, names: Sequence[str]) -> Corpus:
    """The corpus less the named utterances.

    Args:
        corpus: Any corpus.
        names: As for ``LoaderResult.corpus``.

    Raises:
        UserError: Names that are not there: how many, and the first with the nearest that is.
    """
    found = LoaderResult(
        corpus.name,
        f"corpus {corpus.name!r}",
        corpus.table,
        corpus.classes,
        corpus.root,
        synthesize=corpus.synthesize,
        annotations=corpus.annotations,
        ratings=corpus.ratings,
        outside=corpus.outside,
    )
    return replace(found.corpus(names, corpus.excluded), synthesis=corpus.synthesis)
