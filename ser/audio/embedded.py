"""Audio in the cells of Parquet and Arrow files, as Hugging Face ``datasets`` stores it.

A path of the form ``FILE#COLUMN/ROW`` stands for the bytes in that cell: of a column of bytes, or of a column of
structs with a field ``bytes``. A file that has this name is that file.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from ser.audio.damage import AudioFault

SUFFIXES = frozenset({".parquet", ".pq", ".arrow"})
"""Files whose cells may hold audio, by their suffix, in lower case."""

CACHED_BYTES = 2**29
"""Row groups of Parquet files that are kept decoded, in bytes. Utterances are read in the order of their names, which
need not be that of the rows, and a row group can only be decoded as a whole. The last one is kept whatever its size."""

_FORM = re.compile(r"(?s)(.+)#([^#/]+)/([0-9]+)")


class Cell(NamedTuple):
    """Place of an utterance's audio.

    Args:
        file: Parquet or Arrow file.
        column: Name of a column, of bytes or of structs with a field ``bytes``.
        row: Row of the file, from 0.
    """

    file: str
    column: str
    row: int


def path_of(file: str | os.PathLike[str], column: str, row: int) -> str:
    """Return the path that stands for a cell.

    Args:
        file: Parquet or Arrow file.
        column: Name of its column.
        row: Row of the file, from 0.

    Example:
        >>> path_of("train.parquet", "audio", 7)
        'train.parquet#audio/7'
    """
    return f"{os.fspath(file)}#{re.sub('[%#/]', lambda sign: f'%{ord(sign[0]):02X}', column)}/{row}"


def cell_of(path: str | os.PathLike[str]) -> Cell | None:
    """Return the cell that a path stands for, or None if it is that of an ordinary file.

    Args:
        path: A path of either kind.
    """
    text = os.fspath(path)
    if "#" not in text or (found := _FORM.fullmatch(text)) is None:
        return None
    file, column, row = found.groups()
    if Path(file).suffix.lower() not in SUFFIXES or not Path(file).is_file() or Path(text).exists():
        return None
    return Cell(file, unquote(column), int(row))


def file_of(path: str | os.PathLike[str]) -> str:
    """Return the file on disk that holds the audio: that of the cell, or the path itself.

    Args:
        path: A path of either kind.
    """
    cell = cell_of(path)
    return os.fspath(path) if cell is None else cell.file


def content_of(path: str | os.PathLike[str]) -> bytes | None:
    """Return the bytes of the cell that a path stands for, or None if it is that of an ordinary file.

    Any number of threads may call this. Arrow files are memory-mapped; decoded row groups of Parquet files are kept, up
    to ``CACHED_BYTES``.

    Args:
        path: A path of either kind.

    Raises:
        AudioFault: If the file cannot be read, or lacks the column or the row, or the cell holds no bytes.
    """
    import pyarrow as pa

    if (cell := cell_of(path)) is None:
        return None
    try:
        status = Path(cell.file).stat()
        stamp = (status.st_size, status.st_mtime_ns)
        with _lock:  # Parquet readers serve one thread at a time
            read = _from_arrow if cell.file.lower().endswith(".arrow") else _from_parquet
            value = read(cell, stamp)
    except (OSError, pa.ArrowException) as error:
        raise AudioFault(f"file cannot be read ({getattr(error, 'strerror', None) or error}): {path}") from None
    content = value.as_py()
    if content is None:
        raise AudioFault(f"cell is empty: {path}")
    if not isinstance(content, bytes):
        raise AudioFault(f"cell holds {value.type}, expected bytes: {path}")
    return content


_lock = Lock()


def _from_arrow(cell: Cell, stamp: tuple[int, int]) -> Any:
    """Return the scalar in a cell of an Arrow file."""
    table = _mapped(cell.file, stamp)
    _check(cell, table.schema, table.num_rows)
    value = table.column(cell.column)[cell.row]
    return value if not _is_struct(value.type) or not value.is_valid else value["bytes"]


@lru_cache(maxsize=64)
def _mapped(file: str, stamp: tuple[int, int]) -> Any:
    """Map an Arrow file of either kind, which reads none of it unless its buffers are compressed."""
    import pyarrow as pa

    content = pa.memory_map(file)
    try:
        return pa.ipc.open_file(content).read_all()
    except pa.ArrowInvalid:
        content.seek(0)
        return pa.ipc.open_stream(content).read_all()


def _from_parquet(cell: Cell, stamp: tuple[int, int]) -> Any:
    """Return the scalar in a cell of a Parquet file."""
    file, starts = _opened(cell.file, stamp)
    _check(cell, file.schema_arrow, starts[-1])
    group = bisect_right(starts, cell.row) - 1

    def decode() -> Any:
        field = file.schema_arrow.field(cell.column)
        name = f"{cell.column}.bytes" if _is_struct(field.type) else cell.column
        return file.read_row_group(group, columns=[name]).column(cell.column)

    value = _groups.get((cell.file, stamp, cell.column, group), decode)[cell.row - starts[group]]
    return value if not _is_struct(value.type) or not value.is_valid else value["bytes"]


@lru_cache(maxsize=64)
def _opened(file: str, stamp: tuple[int, int]) -> tuple[Any, list[int]]:
    """Open a Parquet file; return it and the first row of each row group, then the number of all rows."""
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(file)
    sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups)]
    return opened, np.cumsum([0, *sizes]).tolist()


def _is_struct(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))


def _check(cell: Cell, schema: Any, rows: int) -> None:
    if cell.column not in schema.names:
        raise AudioFault(f"file has no column {cell.column!r}, but {', '.join(schema.names)}: {cell.file}")
    kind = schema.field(cell.column).type
    if _is_struct(kind) and "bytes" not in [field.name for field in kind]:
        raise AudioFault(f"column {cell.column!r} has no field 'bytes': {cell.file}")
    if cell.row >= rows:
        raise AudioFault(f"file has {rows} rows, so there is no row {cell.row}: {cell.file}")


class _Recent:
    """Column chunks of row groups used last, up to ``CACHED_BYTES``."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(chunk.nbytes for chunk in self._kept.values()) > CACHED_BYTES:
            self._kept.popitem(last=False)
        return self._kept[key]


_groups = _Recent()
