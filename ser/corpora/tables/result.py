"""The rows of a corpus from a table with any of the known column names."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.audio import SUFFIXES
from ser.corpora.loader_result import LoaderResult
from ser.corpora.repeats import row_names
from ser.utils.errors import DataErrors, UserError

_REQUIRED = ("path", "speaker", "label")
_VOTES = "votes_"
_GENDERS = {"": "unknown", "f": "female", "m": "male"}

ANCESTOR_COLUMNS = (
    "wavfile",
    "noisy-label",
    "ground-truth",
    "soft-gt",
    "comments",
    "timestamps",
    "audio-path",
)
"""Columns of the label files of the study that this one builds on; ``python -m ser.noise`` writes these and more."""
_ANCESTOR_NAMES = {"audio-path": "path", "noisy-label": "label", "ground-truth": "true_label"}
# Groups: the session, and the letter of the turn; together they are the speaker.
_IEMOCAP = re.compile(r"(Ses[0-9]{2})[FM]_\w+_([FM])\w*")


def result_of(
    frame: pd.DataFrame,
    *,
    name: str,
    where: str,
    folder: Path,
    audio: Path | None = None,
    notes: Sequence[str] = (),
) -> LoaderResult:
    """Return the rows of a corpus from a table with one row per utterance; no audio is decoded.

    Args:
        frame: Columns as ``load_table`` describes them; cells are text or values.
        name: The corpus's name.
        where: What was read, for messages, such as ``"table /data/calls.csv"``.
        folder: The corpus's root.
        audio: The folder that relative paths begin in; None is ``folder``.
        notes: Lines for people about how the table was read.

    Raises:
        UserError: If there are no rows.
        DataErrors: If columns are missing, repeated or contradictory.
    """
    frame = frame.reset_index(drop=True)
    frame.columns = pd.Index([_text(column) for column in frame.columns])
    if frame.empty:
        raise UserError(f"{where} has no rows.")
    vote_columns = [column for column in frame.columns if column.startswith(_VOTES)]
    columns_found = list(frame.columns)
    frame = _from_ancestor(frame)
    _check_columns(where, frame, vote_columns, columns_found)

    table, errors = _parse_columns(frame, vote_columns)
    # Every row needs a name by which it can be excluded.
    table["utterance_id"] = [id_ or f"row {row}" for row, id_ in enumerate(table["utterance_id"], start=1)]
    table["path"] = [str((audio or folder) / path) if path else "" for path in table["path"]]
    names = row_names(table, folder)
    named = [(names[row], problem) for row, problem in errors]
    classes = tuple(column.removeprefix(_VOTES) for column in vote_columns)
    labelled = {*table["label"], *table.get("true_label", ())}
    unused = [f"{_VOTES}{name}" for name in classes if name not in labelled]
    named += [(name, "no utterance has this label; rename the column if it does not count votes") for name in unused]
    return LoaderResult(name, where, table, classes or None, folder, named, notes=tuple(notes))


def _parse_columns(frame: pd.DataFrame, vote_columns: Sequence[str]) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """Return the columns of ``Corpus.table``, and (row, what is wrong) for each cell that cannot be read.

    Unreadable cells become blank, so that the corpus's own checks still run and all errors are reported at once.
    """
    names = [
        c for c in ("utterance_id", *_REQUIRED, "gender", "session", "true_label", "official_subset") if c in frame
    ]
    table = pd.DataFrame({column: frame[column].map(_text).astype(object) for column in names})
    errors: list[tuple[int, str]] = []
    for column in ("start", "end"):
        cells = frame[column] if column in frame else pd.Series(np.nan, frame.index)
        table[column] = _parsed(cells, _seconds, np.nan, column, errors)
    if vote_columns:
        counts = frame[list(vote_columns)].to_numpy(dtype=object).tolist()
        table["votes"] = _parsed(counts, _counts, None, "votes", errors)
    elif "votes" in frame:
        table["votes"] = _parsed(frame["votes"], _listed_counts, None, "votes", errors)
    if "other_votes" in frame:
        table["other_votes"] = _parsed(frame["other_votes"], _count, np.nan, "other_votes", errors).fillna(0)
    if "gender" in table:
        table["gender"] = [_GENDERS.get(name.lower(), name.lower()) for name in table["gender"]]
    if "true_label" in table:
        table["true_label"] = table["true_label"].where(table["true_label"] != "", None)
    if "utterance_id" not in table:
        table["utterance_id"] = [_default_id(*cells) for cells in table[["path", "start", "end"]].to_numpy()]
    elif "" in set(table["utterance_id"]):
        errors += [(row, "utterance_id is blank") for row in np.flatnonzero(table["utterance_id"] == "").tolist()]
    return table, errors


def id_of_file(name: str) -> str:
    """Return the utterance id of an audio file: its name without the suffix of an audio format."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def _from_ancestor(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename the columns of the ancestor study's files to those of this module; return other tables unchanged."""
    if not {"wavfile", "noisy-label", "audio-path"} <= set(frame.columns):
        return frame
    frame = frame.rename(columns=_ANCESTOR_NAMES)
    if not frame.columns.is_unique:
        return frame
    names = [id_of_file(_text(cell)) for cell in frame["wavfile"]]
    if "utterance_id" not in frame:
        frame["utterance_id"] = names
    matches = [_IEMOCAP.fullmatch(name) for name in names]
    if "speaker" not in frame and all(matches):
        groups = [(match[1], match[2]) for match in matches if match]
        frame["speaker"] = [session + letter for session, letter in groups]
        frame["gender"], frame["session"] = [letter for _, letter in groups], [session for session, _ in groups]
    return frame


def _check_columns(where: str, frame: pd.DataFrame, vote_columns: Sequence[str], found: Sequence[str]) -> None:
    columns = list(frame.columns)
    errors = []
    for column in _REQUIRED:
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=1)
            errors.append((column, f"column missing; is {near[0]!r} meant?" if near else "column missing"))
    errors += [(column, "column appears more than once") for column in frame.columns[frame.columns.duplicated()]]
    if vote_columns and "votes" in columns:
        errors.append(("votes", f"give either this column or {', '.join(vote_columns)}, not both"))
    if errors:
        raise DataErrors(where, errors, f"Columns found: {', '.join(found)}.")


def _parsed(
    cells: Any, parse: Callable[[Any], Any], blank: Any, column: str, errors: list[tuple[int, str]]
) -> pd.Series:
    """Parse a column; where ``parse`` raises, add (row, problem) to ``errors`` and leave the cell blank."""
    values = []
    for row, cell in enumerate(cells):
        try:
            values.append(parse(cell))
        except (ValueError, TypeError) as error:
            errors.append((row, f"{column}: {error}"))
            values.append(blank)
    return pd.Series(values, dtype=object if blank is None else float)


def _text(cell: Any) -> str:
    """Return a cell as text: missing is empty, and a whole number has no decimals."""
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _seconds(cell: Any) -> float:
    text = _text(cell)
    try:
        return float(text) if text else float("nan")
    except ValueError:
        raise ValueError(f"{text!r} is not a number of seconds") from None


def _counts(cells: Sequence[Any]) -> tuple[int, ...] | None:
    texts = [_text(cell) for cell in cells]
    if not any(texts):
        return None
    numbers = [float(text or 0) for text in texts]
    if not all(number.is_integer() for number in numbers):
        raise ValueError(f"{texts} are not whole numbers")
    return tuple(map(int, numbers))


def _count(cell: Any) -> float:
    counts = _counts([cell])
    if counts is not None and counts[0] < 0:
        raise ValueError(f"{cell!r} is not a count")
    return float("nan") if counts is None else float(counts[0])


def _listed_counts(cell: Any) -> tuple[int, ...] | None:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell) if cell.strip() else None
        except (json.JSONDecodeError, RecursionError):
            raise ValueError(f"{cell!r} is not a list such as [2, 0, 1]") from None
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if not isinstance(cell, (list, tuple, np.ndarray)):
        raise TypeError(f"{cell!r} is not a list such as [2, 0, 1]")
    return _counts(list(cell))


def _default_id(path: str, start: float, end: float) -> str:
    name = Path(path).with_suffix("").as_posix() if path else ""
    if np.isnan(start) and np.isnan(end):
        return name
    return f"{name}@{0.0 if np.isnan(start) else start}-{'' if np.isnan(end) else end}"
