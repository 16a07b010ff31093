"""The one table that every corpus becomes, validated at the door."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.errors import DataFaults, UserError
from ser.hashing import digest

COLUMNS = ("utterance_id", "path", "start", "end", "speaker", "gender", "session", "label", "votes")
OPTIONAL_COLUMNS = ("true_label",)
_DEFAULTS = {"path": "", "start": np.nan, "end": np.nan, "gender": "unknown", "session": "", "votes": None}
LONGEST = 1e6  # seconds of a recording
MOST_VOTES = 1_000_000  # for an utterance
GENDERS = ("female", "male", "unknown")
EXCLUDE_ADVICE = (
    "Mend the data, or leave these utterances out: put their names, one a line, into a file and pass --exclude FILE."
)

SYNTHESIS_RATE = 16000
"""Samples per second of synthesised audio."""

Synthesizer = Callable[[str], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances with speakers, labels and votes.

    Args:
        name: The corpus's name, as given to ``load``.
        table: One row per utterance, index 0…N−1, sorted by ``utterance_id``. Columns: ``utterance_id`` (str,
            unique), ``path`` (str, absolute; of synthesised audio a name for it, or empty), ``start`` and
            ``end`` (seconds within ``path``; NaN is the whole file), ``speaker``, ``gender`` (female, male,
            unknown), ``session`` (str; empty if the corpus has none), ``label`` (consensus class), ``votes``
            (tuple of C ints, or None). ``true_label`` is optional: what level ``given`` scores against.
        classes: The C class names, in the order of the votes.
        root: The folder that paths are relative to in digests, so that they agree between machines.
        synthesize: For corpora without files: utterance_id → (samples,) float32 at ``SYNTHESIS_RATE``.
        excluded: Utterances left out on request.

    Raises:
        DataFaults: A row breaks one of the rules above; all faults are listed.
    """

    name: str
    table: pd.DataFrame
    classes: tuple[str, ...]
    root: Path | None = None
    synthesize: Synthesizer | None = field(default=None, repr=False)
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        table = self.table.reset_index(drop=True)
        for column, default in _DEFAULTS.items():
            if column not in table:
                table[column] = pd.Series([default] * len(table), dtype=object)
        table[["start", "end"]] = table[["start", "end"]].astype(float)
        _validate(self.name, table, self.classes, synthesized=self.synthesize is not None)
        table = table.sort_values("utterance_id", kind="stable").reset_index(drop=True)
        kept = [column for column in (*COLUMNS, *OPTIONAL_COLUMNS) if column in table]
        object.__setattr__(self, "table", table[kept])

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class indices of the consensus labels."""
        return self.class_indices(self.table["label"])

    @cached_property
    def votes(self) -> NDArray[np.int64] | None:
        """(N, C) annotators' votes per class, or None unless every utterance has them."""
        column = self.table["votes"]
        if not len(column) or any(votes is None for votes in column):
            return None
        return np.array(column.tolist(), dtype=np.int64)

    def class_indices(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Class names → (N,) indices; −1 for a missing (None or NaN) name."""
        position = {name: index for index, name in enumerate(self.classes)}
        return np.array([position[n] if isinstance(n, str) else -1 for n in names], dtype=np.int64)

    @cached_property
    def digest(self) -> str:
        """Identifies the table (all columns and the classes), the same on every machine."""
        rows = self.table.drop(columns="path").astype(object).where(self.table.drop(columns="path").notna(), None)
        records = [
            [list(map(int, value)) if isinstance(value, tuple) else value for value in row]
            for row in rows.itertuples(index=False, name=None)
        ]
        return digest([self.classes, list(rows.columns), self.relative_paths, records])

    @cached_property
    def audio_digest(self) -> str:
        """Identifies which audio belongs to which utterance; labels may change without changing it."""
        cuts = self.table[["start", "end"]].astype(object).where(self.table[["start", "end"]].notna(), None)
        return digest([self.name, list(self.table["utterance_id"]), self.relative_paths, cuts.to_numpy().tolist()])

    @cached_property
    def relative_paths(self) -> list[str]:
        """Paths below ``root`` with forward slashes; a path outside of it stays as it is."""
        root = self.root
        return [
            Path(path).relative_to(root).as_posix() if root and Path(path).is_relative_to(root) else path
            for path in self.table["path"]
        ]

    def without(self, names: Sequence[str]) -> Corpus:
        """The corpus less the named utterances.

        Args:
            names: Utterance ids, or paths (absolute, or relative to the root), which stand for every
                utterance cut from them.

        Raises:
            UserError: Names that are not in the corpus: how many, and the first with the nearest that is.
        """
        ids = list(self.table["utterance_id"])
        lookup = {id_: {id_} for id_ in ids}
        for paths in (self.table["path"], self.relative_paths):
            for id_, path in zip(ids, paths, strict=True):
                if path:
                    lookup.setdefault(path, set()).add(id_)
        if unknown := [name for name in names if name not in lookup]:
            nearest = (difflib.get_close_matches(unknown[0], lookup, n=1) or ids)[0]
            raise UserError(
                f"{len(unknown)} of {len(names)} utterances to exclude are not in corpus {self.name!r}, "
                f"the first: {unknown[0]!r}. The nearest there is {nearest!r}."
            )
        out = set().union(*(lookup[name] for name in names))
        kept = self.table[~self.table["utterance_id"].isin(out)]
        return Corpus(self.name, kept, self.classes, self.root, self.synthesize, tuple(sorted({*self.excluded, *out})))


def _validate(name: str, table: pd.DataFrame, classes: Sequence[str], *, synthesized: bool) -> None:
    """Raises ``DataFaults`` with every broken rule."""
    missing = [column for column in ("utterance_id", "speaker", "label") if column not in table]
    if missing:
        raise DataFaults(
            f"corpus {name!r}",
            [(column, "column missing") for column in missing],
            f"Columns there: {', '.join(map(str, table.columns))}.",
        )
    if table.empty:
        raise UserError(f"corpus {name!r} has no utterances.")
    faults: list[tuple[str, str]] = []
    if len(set(classes)) != len(classes) or len(classes) < 2:
        faults.append(("classes", f"at least two distinct class names are needed, not {list(classes)}"))
    seen: set[str] = set()
    known = set(classes)
    for position, row in enumerate(table.to_dict("records")):
        id_ = row["utterance_id"]
        who = id_ if isinstance(id_, str) and id_ else f"row {position + 1}"
        if not isinstance(id_, str) or not id_:
            faults.append((who, f"utterance_id is {id_!r}, not a name"))
        elif id_ in seen:
            faults.append((who, "utterance_id appears more than once"))
        seen.add(id_)
        faults.extend((who, fault) for fault in _row_faults(row, known, len(classes), synthesized))
    if faults:
        raise DataFaults(f"corpus {name!r}", faults, "Mend the data, then run again.")


def _row_faults(row: Mapping[Hashable, Any], known: set[str], width: int, synthesized: bool) -> Iterable[str]:
    speaker, path, start, end, votes = (row[key] for key in ("speaker", "path", "start", "end", "votes"))
    if not isinstance(speaker, str) or not speaker:
        yield f"speaker is {speaker!r}, not a name"
    if row["label"] not in known:
        yield f"label {row['label']!r} is not one of {', '.join(sorted(known))}"
    if isinstance(truth := row.get("true_label"), str) and truth not in known:
        yield f"true_label {truth!r} is not one of {', '.join(sorted(known))}"
    if row["gender"] not in GENDERS:
        yield f"gender {row['gender']!r} is not one of {', '.join(GENDERS)}"
    if not synthesized and (not isinstance(path, str) or not path):
        yield f"path is {path!r}"
    elif "\0" in path:
        yield f"path {path!r} has a NUL character"
    begin = 0.0 if np.isnan(start) else start
    if begin < 0 or begin > LONGEST or end > LONGEST:
        yield f"cut from {start} to {end} s does not lie between 0 and {LONGEST:g} s"
    elif end <= begin:
        yield f"cut from {start} to {end} s is empty or reversed"
    if votes is not None and not (
        isinstance(votes, tuple) and len(votes) == width and min(votes) >= 0 and 0 < sum(votes) <= MOST_VOTES
    ):
        yield f"votes {votes!r} are not {width} counts, one per class, with 1 to {MOST_VOTES} votes"
