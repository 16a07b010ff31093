"""The table that every corpus is loaded into, validated on load."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.corpora.names import NearEqualNames, gender_of, near_equal
from ser.utils.errors import DataErrors, UserError, cut, listed, shown
from ser.utils.hashing import digest

COLUMNS = ("utterance_id", "path", "start", "end", "speaker", "gender", "session", "label", "votes")
OPTIONAL_COLUMNS = (
    "true_label",
    "official_subset",
    "other_votes",
    "valence",
    "activation",
    "dominance",
    "dialog_start",
    "dialog_end",
    "recognition",
    "naturalness",
    "comments",
)
ANNOTATION_COLUMNS = ("utterance_id", "annotator", "label", "is_self")
RATING_COLUMNS = ("utterance_id", "annotator", "is_self", "valence", "activation", "dominance")
_DEFAULTS = {"path": "", "start": np.nan, "end": np.nan, "gender": "unknown", "session": "", "votes": None}
MAX_SECONDS = 1e6  # of a recording
MAX_VOTES = 1_000_000  # of an utterance
_LONGEST_NAME = 200  # characters
OFFICIAL_SUBSETS = ("train", "validation", "test", "")
GENDERS = ("female", "male", "unknown")
EXCLUDE_ADVICE = (
    "Correct the data, or leave these utterances out: copy their names, or the lines above as they are, into a file "
    "and pass --exclude FILE."
)

SYNTHESIS_RATE = 16000
"""Sample rate of synthesised audio, in Hz."""

Synthesizer = Callable[[str], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances with their speakers, labels and votes.

    Args:
        name: The corpus's name.
        table: One row per utterance, in any order; the attribute is sorted by ``utterance_id``, with index 0…N−1.
            Columns: ``utterance_id`` (str, unique), ``path`` (str, absolute; for synthesised audio an identifier, or
            empty), ``start`` and ``end`` (seconds within ``path``; NaN stands for the whole file), ``speaker``,
            ``gender`` (female, male, unknown; read by ``gender_of``), ``session`` (str; empty if the corpus has none),
            ``label`` (consensus class), ``votes`` (tuple of C ints, the number of annotators who named each class, or
            None). Required are ``utterance_id``, ``speaker``, ``label`` and, unless the audio is synthesised, ``path``.
            Optional: ``true_label``, the reference of noise level ``given``; ``official_subset``, train, validation,
            test or empty, the split that the corpus publishes; ``other_votes``, the number of votes for
            categories outside the classes; ``valence``, ``activation``, ``dominance``, the annotators' means on the
            corpus's own scale; ``dialog_start`` and ``dialog_end``, seconds within the conversation that the
            utterance comes from (informative, not used as a cut); ``recognition`` and ``naturalness``, shares of
            listeners; ``comments``, the annotators' own words. Other columns are dropped.
        classes: The C class names, in the order of the votes.
        root: The folder that paths are relative to in digests, so that digests agree between machines.
        synthesize: For corpora without files: utterance_id → (samples,) float32 at ``SYNTHESIS_RATE``.
        excluded: Names left out on request: utterances, and data errors that belong to no utterance.
        annotations: The individual votes, where the corpus publishes more than ``votes``: one row per utterance,
            annotator and category named. Columns: ``utterance_id`` (utterances outside the classes included, because
            agreement computed only where there is a consensus would be too high), ``annotator`` (None if anonymous),
            ``label`` (a class, or the corpus's word for a category outside the classes), ``is_self`` (the speaker's
            own judgement, which is not a vote).
        ratings: The individual ratings: ``utterance_id``, ``annotator``, ``is_self``, ``valence``, ``activation``,
            ``dominance`` (NaN where left blank).
        outside: The number of utterances outside the classes, by the corpus's word for their category.
        synthesis: A string that changes whenever the output of ``synthesize`` changes. If empty, some utterances are
            rendered to find out whether they changed.
        notes: Lines for people about how the corpus was read and what was chosen of it.
        unused: The number of files in the corpus's folder that no utterance uses, by kind, such as ``.txt``.
        composition: Chosen class → the corpus's own classes that it consists of, with their numbers of utterances;
            empty for the corpus's own classes.
        former: Whether the corpus is read for what version 0.1 began: ``human`` noise treats classes that CREMA-D
            lacks as it did then, and names may look alike.

    Raises:
        DataErrors: If a row breaks one of the rules above; all errors are listed.
        NearEqualNames: If two names of speakers or sessions look alike.
        UserError: If there are no utterances, or fewer than two classes.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame(
        ...     {
        ...         "utterance_id": ["u2", "u1"],
        ...         "path": ["/audio/2.wav", "/audio/1.wav"],
        ...         "speaker": ["ann", "bob"],
        ...         "label": ["sad", "happy"],
        ...         "votes": [(0, 3), (2, 1)],
        ...     }
        ... )
        >>> corpus = Corpus("mine", table, ("happy", "sad"), Path("/audio"))
        >>> list(corpus.table["utterance_id"]), corpus.labels.tolist(), corpus.votes.tolist()
        (['u1', 'u2'], [0, 1], [[2, 1], [0, 3]])
        >>> corpus.relative_paths
        ['1.wav', '2.wav']
    """

    name: str
    table: pd.DataFrame
    classes: tuple[str, ...]
    root: Path | None = None
    synthesize: Synthesizer | None = field(default=None, repr=False)
    excluded: tuple[str, ...] = ()
    annotations: pd.DataFrame | None = field(default=None, repr=False)
    ratings: pd.DataFrame | None = field(default=None, repr=False)
    outside: Mapping[str, int] = field(default_factory=dict)
    synthesis: str = field(default="", repr=False)
    notes: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)
    composition: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    former: bool = False

    def __post_init__(self) -> None:
        table = self.table.reset_index(drop=True)
        for column, default in _DEFAULTS.items():
            if column not in table:
                table[column] = pd.Series([default] * len(table), dtype=object)
        table[["start", "end"]] = table[["start", "end"]].astype(float)
        table["gender"] = [gender_of(cell) for cell in table["gender"]]
        _validate(self.name, table, self.classes, synthesized=self.synthesize is not None)
        if not self.former:
            _check_names(self.name, table)
        object.__setattr__(self, "notes", tuple(map(cut, self.notes)))
        table = table.sort_values("utterance_id", kind="stable").reset_index(drop=True)
        kept = [column for column in (*COLUMNS, *OPTIONAL_COLUMNS) if column in table]
        if self.former:  # version 0.1 knew no official split
            kept = [column for column in kept if column != "official_subset"]
        object.__setattr__(self, "table", table[kept])
        for name, columns in (("annotations", ANNOTATION_COLUMNS), ("ratings", RATING_COLUMNS)):
            if (frame := getattr(self, name)) is not None:
                object.__setattr__(self, name, frame[list(columns)].reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Return the class indices of the consensus labels, (N,)."""
        return self.class_indices(self.table["label"])

    @cached_property
    def votes(self) -> NDArray[np.int64] | None:
        """Return the number of votes per class, (N, C), or None if an utterance has no votes."""
        column = self.table["votes"]
        if not len(column) or any(votes is None for votes in column):
            return None
        return np.array(column.tolist(), dtype=np.int64)

    @cached_property
    def other_votes(self) -> NDArray[np.int64]:
        """Return the number of votes for categories outside the classes, (N,); 0 where it is not recorded."""
        if "other_votes" not in self.table:
            return np.zeros(len(self), dtype=np.int64)
        return self.table["other_votes"].fillna(0).to_numpy(dtype=np.int64)

    def class_indices(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Convert class names to indices, (N,); a missing name (None or NaN) becomes −1."""
        position = {name: index for index, name in enumerate(self.classes)}
        return np.array([position[n] if isinstance(n, str) else -1 for n in names], dtype=np.int64)

    @cached_property
    def digest(self) -> str:
        """Return a digest of the classes and of all columns of the table, equal on every machine."""
        rows = self.table.drop(columns="path").astype(object).where(self.table.drop(columns="path").notna(), None)
        records = [
            [list(map(int, value)) if isinstance(value, tuple) else value for value in row]
            for row in rows.itertuples(index=False, name=None)
        ]
        return digest([self.classes, list(rows.columns), self.relative_paths, records])

    @cached_property
    def audio_digest(self) -> str:
        """Return a digest of which audio belongs to which utterance; it does not depend on the labels."""
        cuts = self.table[["start", "end"]].astype(object).where(self.table[["start", "end"]].notna(), None)
        return digest([self.name, list(self.table["utterance_id"]), self.relative_paths, cuts.to_numpy().tolist()])

    @cached_property
    def relative_paths(self) -> list[str]:
        """Return the paths relative to ``root``, with forward slashes; a path outside of it stays as it is."""
        return relative_paths(self.table["path"], self.root)


def relative_paths(paths: Iterable[str], root: Path | None) -> list[str]:
    """Return paths relative to a folder, with forward slashes; a path outside of it stays as it is.

    Args:
        paths: N paths; an empty one stays empty.
        root: The folder; None returns the paths unchanged.
    """
    if root is None:
        return list(paths)
    prefix = f"{root.as_posix().rstrip('/')}/"
    texts = (Path(path).as_posix() if path else "" for path in paths)
    return [text.removeprefix(prefix) for text in texts]


def count_votes(
    annotations: pd.DataFrame, ids: Sequence[str], classes: Sequence[str]
) -> tuple[list[tuple[int, ...] | None], list[int]]:
    """Count how many annotators named each class.

    An annotator who names several categories votes for each of them; naming a category twice is one vote.
    Self-evaluations do not count.

    Args:
        annotations: As ``Corpus.annotations``; rows of other utterances are ignored.
        ids: N utterance ids.
        classes: The C class names.

    Returns:
        The C counts of each utterance, or None where no annotator named a class; and the number of votes of each
        utterance for other categories.
    """
    row = {id_: position for position, id_ in enumerate(ids)}
    column = {name: position for position, name in enumerate(classes)}
    counting = annotations["utterance_id"].isin(row) & ~annotations["is_self"].astype(bool)
    said = annotations[counting]
    # Anonymous votes are never duplicates: nothing shows that two of them come from one person.
    said = said[said["annotator"].isna() | ~said.duplicated(["utterance_id", "annotator", "label"])]
    counts = np.zeros((len(ids), len(classes) + 1), dtype=np.int64)
    columns = said["label"].map(column).fillna(len(classes)).astype(int)
    np.add.at(counts, (said["utterance_id"].map(row).astype(int), columns), 1)
    votes = [tuple(line) if any(line) else None for line in counts[:, :-1].tolist()]
    return votes, counts[:, -1].tolist()


def _validate(name: str, table: pd.DataFrame, classes: Sequence[str], *, synthesized: bool) -> None:
    """Raise ``DataErrors`` that list every broken rule."""
    missing = [column for column in ("utterance_id", "speaker", "label") if column not in table]
    if missing:
        raise DataErrors(
            f"corpus {name!r}",
            [(column, "column missing") for column in missing],
            f"Columns found: {', '.join(map(str, table.columns))}.",
        )
    if table.empty:
        raise UserError(f"corpus {name!r} has no utterances.")
    errors: list[tuple[str, str]] = []
    seen: set[str] = set()
    known = set(classes)
    for position, row in enumerate(table.to_dict("records")):
        id_ = row["utterance_id"]
        who = id_ if isinstance(id_, str) and id_ else f"row {position + 1}"
        if not isinstance(id_, str) or not id_:
            errors.append((who, f"utterance_id is {shown(id_)}, not a name"))
        elif id_.startswith("#") or id_ != id_.strip() or "\n" in id_ or "\r" in id_:
            errors.append((who, "utterance_id begins with #, begins or ends with a space, or has a line break"))
        elif id_ in seen:
            errors.append((who, "utterance_id appears more than once"))
        if isinstance(id_, str):
            seen.add(id_)
        errors.extend((who, error) for error in _row_errors(row, known, len(classes), synthesized))
    if errors:
        raise DataErrors(f"corpus {name!r}", errors, "Correct the data, then run again.")
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise UserError(f"corpus {name!r} needs at least two distinct class names, got {listed(classes)}.")


def _check_names(name: str, table: pd.DataFrame) -> None:
    """Raise if a speaker or session appears under two names."""
    found = {}
    for column in ("speaker", "session"):
        number = table[column].astype(str).value_counts()
        groups = [sorted(group, key=lambda one: (-number[one], one)) for group in near_equal(number.index)]
        if groups:
            found[column] = [[(one, int(number[one])) for one in group] for group in groups]
    if found:
        raise NearEqualNames(f"corpus {name!r}", found)


def _row_errors(row: Mapping[Hashable, Any], known: set[str], width: int, synthesized: bool) -> Iterable[str]:
    speaker, path, start, end, votes = (row[key] for key in ("speaker", "path", "start", "end", "votes"))
    if not isinstance(speaker, str) or not speaker:
        yield f"speaker is {shown(speaker)}, not a name"
    if not isinstance(label := row["label"], str) or label not in known:
        yield f"label {shown(label)} is not one of {listed(sorted(known))}"
    if isinstance(truth := row.get("true_label"), str) and truth not in known:
        yield f"true_label {shown(truth)} is not one of {listed(sorted(known))}"
    if not isinstance(subset := row.get("official_subset", ""), str) or subset not in OFFICIAL_SUBSETS:
        yield f"official_subset {shown(subset)} is not one of {', '.join(filter(None, OFFICIAL_SUBSETS))}"
    if not synthesized and (not isinstance(path, str) or not path):
        yield f"path is {shown(path)}, not the name of a file"
    elif "\0" in path:
        yield f"path {shown(path)} has a NUL character"
    for column in ("speaker", "label", "true_label", "session"):
        if isinstance(cell := row.get(column), str) and len(cell) > _LONGEST_NAME:
            yield f"{column} {shown(cell)} is longer than {_LONGEST_NAME} characters"
    begin = 0.0 if np.isnan(start) else start
    if begin < 0 or begin > MAX_SECONDS or end > MAX_SECONDS:
        yield f"cut from {start} to {end} s is not within 0 to {MAX_SECONDS:g} s"
    elif end <= begin:
        yield f"cut from {start} to {end} s is empty or reversed"
    if not 0 <= (others := row.get("other_votes") or 0) <= MAX_VOTES:
        yield f"other_votes {shown(others)} is not a count of at most {MAX_VOTES}"
    if votes is not None and not (
        isinstance(votes, tuple) and len(votes) == width and min(votes) >= 0 and 0 < sum(votes) <= MAX_VOTES
    ):
        yield f"votes {shown(votes)} are not {width} counts, one per class, that add up to 1 to {MAX_VOTES}"
