"""Reading of table files: CSV with any usual separator, JSON, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.corpora.tables.cells import is_missing
from ser.corpora.tables.columns import role_of
from ser.utils.errors import UserError, shown

_CSV = (".csv", ".tsv", ".txt", ".tab")
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
SUFFIXES = (*_CSV, *_JSON_LINES, ".json", *_PARQUET)
"""Suffixes of table files."""

_SEPARATORS = ",;\t"
_LONGEST_CELL = 2**24  # characters


def read_table(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table; the cells of a CSV file are text.

    The line with the names of the columns decides whether commas, semicolons or tabs separate cells. Text is UTF-8, or
    UTF-16 with a byte order mark (Excel's "Unicode text"). Blank lines, and a column of row numbers without a name as
    pandas writes it, are left out. A JSON file has a list of records, a record for each utterance id, or a list for
    each column; JSON lines are accepted in it as well. Records in cells become a column for each of their fields, such
    as ``speaker.id``, but in the column ``votes``. Columns of a Parquet file that hold bytes are not read.

    Args:
        path: A file with one of the ``SUFFIXES``.

    Returns:
        The table, and names of the columns with bytes that were not read.

    Raises:
        UserError: If the file cannot be read or has no columns.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"table {path} is none of {', '.join(SUFFIXES)}. Convert it to one of these.")
    if path.is_fifo():
        raise UserError(f"table {path} is a pipe. Pass a file: {', '.join(SUFFIXES)}.")
    binary: tuple[str, ...] = ()
    try:
        if suffix in _PARQUET:
            frame, binary = _read_parquet(path)
        elif suffix in _CSV:
            frame = _read_csv(_decoded(path))
        else:
            frame = _from_json(_decoded(path), lines=suffix in _JSON_LINES)
    except (OSError, ValueError, csv.Error) as error:  # errors of pandas, pyarrow and json are ValueErrors
        raise UserError(f"table {path} cannot be read: {str(error).splitlines()[0]}") from error
    frame = frame.reset_index(drop=True)
    return frame if suffix in _CSV else _flat(frame), binary


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not UTF-8 (byte 0x{content[error.start]:02x}). Save it as UTF-8: in Excel as 'CSV UTF-8', "
            f"else with: iconv -f LATIN1 -t UTF-8 {path.name} > utf8{path.suffix}"
        ) from None


def _read_csv(content: str) -> pd.DataFrame:
    header = next((line for line in content.splitlines() if line.strip()), "")
    if not header:
        raise ValueError("it is empty")
    previous_limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        names = {mark: next(csv.reader([header], delimiter=mark)) for mark in _SEPARATORS}
    finally:
        csv.field_size_limit(previous_limit)
    separator = max(
        _SEPARATORS, key=lambda mark: (sum(role_of(name) is not None for name in names[mark]), len(names[mark]))
    )
    # Read without a header, so that pandas neither renames a repeated column nor makes one the index.
    cells = pd.read_csv(io.StringIO(content), header=None, dtype=str, keep_default_na=False, sep=separator)
    frame = cells.iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index([str(name).strip() for name in cells.iloc[0].fillna("")])
    frame = frame[(frame.fillna("") != "").any(axis=1)].reset_index(drop=True)
    frame = frame.loc[:, [not _is_index(name, frame.iloc[:, at]) for at, name in enumerate(frame.columns)]]
    frame.columns = pd.Index([name or f"unnamed {at}" for at, name in enumerate(frame.columns, start=1)])
    return frame


def _is_index(name: str, cells: pd.Series) -> bool:
    """Return whether a column holds nothing, or row numbers as pandas writes them."""
    if name and not name.startswith("Unnamed:"):
        return False
    texts = cells.fillna("").tolist()
    return not any(texts) or (all(text.isdecimal() for text in texts) and len(set(texts)) == len(texts))


def _from_json(content: str, *, lines: bool) -> pd.DataFrame:
    found: Any
    try:
        found = _records(content) if lines else json.loads(content)
    except json.JSONDecodeError:
        found = _records(content)  # JSON lines in a file called .json
    if isinstance(found, dict) and found:
        if all(isinstance(value, list) for value in found.values()) or any(map(role_of, found)):
            return pd.DataFrame(found, dtype=object)  # columns, as pandas.DataFrame.to_json writes them
        if all(isinstance(value, dict) for value in found.values()):
            found = [{"key": key, **value} for key, value in found.items()]
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise ValueError('it has no records such as {"file": "a.wav", "speaker": "s1", "emotion": "sad"}')
    return pd.DataFrame(found, dtype=object)


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a column for each field of the records in its cells."""
    parts = []
    for at, name in enumerate(frame.columns):
        cells = frame.iloc[:, at]
        are_records = [isinstance(cell, dict) for cell in cells]
        if name != "votes" and any(are_records) and all(cells[~np.array(are_records)].map(is_missing)):
            fields = pd.DataFrame([cell if isinstance(cell, dict) else {} for cell in cells], dtype=object)
            parts.append(_flat(fields.add_prefix(f"{name}.")))
        else:
            parts.append(frame.iloc[:, [at]])
    return pd.concat(parts, axis=1) if parts else frame


def _records(content: str) -> list[Any]:
    records = []
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except (json.JSONDecodeError, RecursionError):
                raise ValueError(f"line {number} is not JSON: {shown(line.strip())}") from None
    return records


def _read_parquet(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def has_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(has_bytes(field.type) for field in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        binary = tuple(field.name for field in schema if has_bytes(field.type))
        frame = file.read(columns=[name for name in schema.names if name not in binary]).to_pandas()
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=named) if named else frame, binary
