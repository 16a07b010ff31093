"""What a loader returns, and how it becomes a corpus: utterances are excluded, the errors of the rest are listed."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ser.corpora.corpus import EXCLUDE_ADVICE, Corpus, Synthesizer, relative_paths
from ser.corpora.dialogues import sessions_of_recordings
from ser.corpora.names import gender_notes
from ser.corpora.repeats import find_repeats, merge_equal, row_names
from ser.utils.errors import DataErrors, UserError, printed_name, shown

_MAX_QUOTED = 200  # characters of a name in a message
_MAX_COMPARED = 20_000  # names among which the nearest is searched


@dataclass(frozen=True, eq=False)
class LoaderResult:
    """Rows and data errors that a loader found, before anything is excluded.

    Args:
        name: The corpus's name.
        where: What was read, the start of the message that lists data errors, such as
            ``"corpus 'ravdess' at /data"``.
        rows: Columns as in ``Corpus.table``; rows may break its rules. What cannot become a row is among ``errors``.
        classes: The C class names, or None for the sorted labels that remain after exclusion.
        root: As ``Corpus.root``.
        errors: (utterance id, path or FILE:LINE, what is wrong). Excluding the name accepts the loss.
        advice: What to do about data errors; the advice to exclude follows it.
        synthesize: As ``Corpus.synthesize``.
        annotations: As ``Corpus.annotations``; utterances without a row are allowed. A column ``row``, the index in
            ``rows``, says which of several rows of one utterance a vote is about.
        ratings: As ``Corpus.ratings``; utterances without a row are allowed.
        outside: As ``Corpus.outside``, before exclusion.
        synthesis: As ``Corpus.synthesis``.
        default_classes: The classes that ``load`` chooses by default, as in ``--classes``; empty for all.
        notes: As ``Corpus.notes``.
        unused: As ``Corpus.unused``.
    """

    name: str
    where: str
    rows: pd.DataFrame
    classes: tuple[str, ...] | None
    root: Path | None = None
    errors: Sequence[tuple[str, str]] = ()
    advice: str = ""
    synthesize: Synthesizer | None = field(default=None, repr=False)
    annotations: pd.DataFrame | None = field(default=None, repr=False)
    ratings: pd.DataFrame | None = field(default=None, repr=False)
    outside: Mapping[str, int] = field(default_factory=dict)
    synthesis: str = ""
    default_classes: str = ""
    notes: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)

    def to_corpus(
        self, exclude: Sequence[str] = (), excluded_before: Sequence[str] = (), *, former: bool = False
    ) -> Corpus:
        """Build the corpus without the excluded utterances.

        Rows of one utterance that are equal in all columns are merged; of others, all but the first are data errors.

        Args:
            exclude: Utterance ids; paths (absolute, or relative to the root), each of which stands for every
                utterance cut from it; names of data errors; or whole lines of a list of data errors.
            excluded_before: Names that an earlier call excluded.
            former: As ``Corpus.former``.

        Returns:
            The corpus. Its ``excluded`` names the utterances, and the data errors that belong to no utterance.

        Raises:
            UserError: If names are not in the corpus; the message gives their number, and the first of them with the
                nearest name that is.
            NearEqualNames: If two names of speakers or sessions look alike.
            DataErrors: If errors remain; all of them are listed.
        """
        names = row_names(self.rows, self.root)
        rows, merged = merge_equal(self.rows.set_axis(pd.Index(names, dtype=object)))
        excluded = self._resolve(exclude, rows)
        kept = rows[~rows.index.isin(list(excluded))]
        errors = [(name, error) for name, error in self.errors if name not in excluded]
        faulty = {name for name, _ in errors}
        repeats = find_repeats(kept, faulty)
        repeated = kept.duplicated("utterance_id", keep=False) if "utterance_id" in kept else False
        kept = kept[~(repeated & kept.index.isin(faulty | {name for name, *_ in repeats}))]
        classes = self.classes
        if classes is None:
            labels = pd.concat([kept[column] for column in ("label", "true_label") if column in kept])
            classes = tuple(sorted({label for label in labels if isinstance(label, str) and label}))
        if (errors or repeats) and (kept.empty or len(classes) < 2):  # errors are why so little is left
            raise self._data_errors([*errors, *((name, why) for name, _, why in repeats)])
        if kept.empty and len(self.rows):
            raise UserError(f"corpus {self.name!r}: --exclude leaves none of its {len(self.rows)} utterances.")
        left_out = excluded | (set(rows.get("utterance_id", ())) - set(kept.get("utterance_id", ())))
        annotations, ratings = (
            None if frame is None else frame[~frame["utterance_id"].isin(left_out)]
            for frame in (self.annotations, self.ratings)
        )
        if annotations is not None and "row" in annotations:
            annotations = annotations[~annotations["row"].isin(self.rows.index[~pd.Index(names).isin(kept.index)])]
        kept, dialogues = (kept, ()) if former else sessions_of_recordings(kept)
        genders = gender_notes(kept["speaker"], kept["gender"]) if {"speaker", "gender"} <= set(kept.columns) else ()
        try:
            corpus = Corpus(
                self.name,
                kept,
                classes,
                self.root,
                self.synthesize,
                tuple(sorted({*excluded_before, *excluded})),
                annotations,
                ratings,
                self.outside,
                self.synthesis,
                tuple(dict.fromkeys((*self.notes, *merged, *dialogues, *genders))),
                self.unused,
                former=former,
            )
        except DataErrors as invalid:
            own_name = dict(zip(kept.get("utterance_id", kept.index), kept.index, strict=True))
            errors += [(own_name.get(name, name), error) for name, error in invalid.errors]
            faulty = {name for name, _ in errors}
            # A row that repeats a faulty one may be kept in its place.
            errors += [(name, why) for name, first, why in repeats if first not in faulty]
            raise self._data_errors(errors) from None
        errors += [(name, why) for name, _, why in repeats]
        if errors:
            raise self._data_errors(errors)
        return corpus

    def _data_errors(self, errors: Sequence[tuple[str, str]]) -> DataErrors:
        return DataErrors(self.where, errors, f"{self.advice} {EXCLUDE_ADVICE}".strip())

    def _resolve(self, exclude: Sequence[str], rows: pd.DataFrame) -> set[str]:
        """Return the names of rows, and of data errors without a row, that ``exclude`` stands for."""
        if not exclude:
            return set()
        lookup: defaultdict[str, set[str]] = defaultdict(set)
        for name, _ in self.errors:
            lookup[name].add(name)
            lookup[printed_name(name)].add(name)
        if self.annotations is not None:
            # Utterances outside the classes are accepted as well, so that one list serves every set of classes.
            for id_ in self.annotations["utterance_id"]:
                lookup[id_].add(id_)
        if len(rows):
            paths = list(rows["path"]) if "path" in rows else [""] * len(rows)
            for name, *others in zip(
                rows.index, rows["utterance_id"], paths, relative_paths(paths, self.root), strict=True
            ):
                for word in (name, *others, printed_name(name)):
                    if isinstance(word, str) and word:
                        lookup[word].add(name)
        names = [_name_in(line, lookup) for line in exclude]
        if unknown := [name for name in names if name not in lookup]:
            first = unknown[0][:_MAX_QUOTED]
            candidates = lookup if len(lookup) <= _MAX_COMPARED else ()
            nearest = (difflib.get_close_matches(first, candidates, n=1) or sorted(lookup))[0]
            raise UserError(
                f"{len(unknown)} of {len(names)} names to exclude are not in corpus {self.name!r}, "
                f"the first: {first!r}. The nearest name in it is {shown(nearest, _MAX_QUOTED)}."
            )
        return set().union(*(lookup[name] for name in names))


def _name_in(line: str, known: Collection[str]) -> str:
    """Return the longest known name that a line "name: what is wrong" starts with; names may contain colons."""
    pieces = line.split(": ")
    heads = (": ".join(pieces[:count]) for count in range(len(pieces), 0, -1))
    return next((head for head in heads if head in known), line)


def without(corpus: Corpus, names: Sequence[str]) -> Corpus:
    """Return a corpus without the named utterances.

    Args:
        corpus: Any corpus.
        names: As ``exclude`` of ``LoaderResult.to_corpus``.

    Returns:
        A new corpus, whose ``excluded`` has the names as well.

    Raises:
        UserError: If names are not in the corpus, or no utterance is left.

    Example:
        >>> from ser.corpora import load
        >>> corpus = load("synthetic")
        >>> rest = without(corpus, ["Ses01F_ang_00"])
        >>> len(corpus), len(rest), rest.excluded
        (480, 479, ('Ses01F_ang_00',))
    """
    result = LoaderResult(
        corpus.name,
        f"corpus {corpus.name!r}",
        corpus.table,
        corpus.classes,
        corpus.root,
        synthesize=corpus.synthesize,
        annotations=corpus.annotations,
        ratings=corpus.ratings,
        outside=corpus.outside,
        synthesis=corpus.synthesis,
        notes=corpus.notes,
        unused=corpus.unused,
    )
    rest = result.to_corpus(names, corpus.excluded, former=corpus.former)
    return replace(rest, composition=corpus.composition) if corpus.composition else rest
