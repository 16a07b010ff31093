"""Rows of Hugging Face ``datasets``, on disk or loaded: their columns, and the places of their audio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import pandas as pd

from ser.audio import embedded
from ser.utils.errors import UserError, first_line

_COMPARED = 512  # bytes on each side of the middle of an audio file
_BATCH = 1000  # rows


@dataclass(frozen=True)
class DatasetRows:
    """Rows of a dataset or of a part of it.

    Args:
        frame: N rows: the columns without bytes, with names in place of the numbers of classes; ``path`` stands for the
            audio, as in ``ser.audio.embedded`` or as a file, if the dataset has a column of audio.
        audio: N names that the dataset gives its audio, without folders; empty where it gives none.
        split: The split that the rows belong to, or an empty string.
    """

    frame: pd.DataFrame
    audio: list[str]
    split: str


class _Content(NamedTuple):
    """Content of a file: all columns without bytes; the column of audio; names of the audio; which cells are empty."""

    table: Any
    audio: str | None
    names: list[str]
    are_empty: list[bool]


class _Sign(NamedTuple):
    """Audio's name, its number of bytes (-1 where it is a file of this name), and a checksum of bytes in the middle."""

    name: str
    size: int
    checksum: int


def read_dataset_file(file: Path, split: str) -> DatasetRows:
    """Read a Parquet or Arrow file of a dataset; no audio is read.

    Args:
        file: The file.
        split: The split that it belongs to, or an empty string.

    Raises:
        UserError: If the file cannot be read.
    """
    import pyarrow as pa

    try:
        found = _read_arrow(file) if file.suffix.lower() == ".arrow" else _read_parquet(file)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"dataset file {str(file)!r} cannot be read: {first_line(error)}") from error
    frame = _frame(found.table)
    if found.audio is None:
        return DatasetRows(frame, [""] * len(frame), split)
    paths = [
        str(file.parent / name) if is_empty and name else embedded.path_of(file, found.audio, row)
        for row, (name, is_empty) in enumerate(zip(found.names, found.are_empty, strict=True))
    ]
    return DatasetRows(frame.assign(path=paths), [Path(name).name for name in found.names], split)


def read_dataset(dataset: Any, split: str) -> DatasetRows:
    """Read a loaded ``datasets.Dataset``; its audio stays in the Arrow files that back it, or in files that it names.

    Rows that are not those of the Arrow files, because they were selected, sorted or sliced, are written to a file of
    the library's cache first.

    Args:
        dataset: The dataset.
        split: The split that it is, or an empty string.

    Raises:
        UserError: If it has no column of audio, or neither Arrow files nor audio files.
    """
    audio = _audio_column(dataset.data.table.schema)
    if audio is None:
        raise UserError(f"the dataset has no column of audio, but {', '.join(dataset.column_names)}.")
    feature = dataset.features[audio]
    encoded = dataset.cast_column(audio, replace(feature, decode=False)) if hasattr(feature, "decode") else dataset
    for rows in (lambda: encoded, encoded.flatten_indices):
        current = rows()
        batches = current.with_format("arrow").select_columns([audio]).iter(batch_size=_BATCH)
        signs = [sign for batch in batches for sign in _signs(batch.column(audio))]
        paths = [sign.name for sign in signs]
        if any(sign.size >= 0 for sign in signs):
            in_files = _signs_of_files([Path(file["filename"]) for file in current.cache_files])
            paths = [path for _, path in in_files] if [sign for sign, _ in in_files] == signs else []
        if paths:
            others = [column for column in current.column_names if column != audio]
            frame = _frame(_without_bytes(current.select_columns(others).with_format("arrow")[:]))
            return DatasetRows(frame.assign(path=paths), [Path(sign.name).name for sign in signs], split)
    raise UserError(
        "the audio of the dataset is in memory alone. Save it with dataset.save_to_disk('FOLDER'), and use "
        "load_from_disk('FOLDER'), or the corpus huggingface with the root FOLDER."
    )


def _signs(column: Any) -> list[_Sign]:
    """Return a sign of the audio of each row, by which it is found again; not all of it is read."""
    signs = []
    for name, cell in zip(_names(column), column, strict=True):
        cell = cell["bytes"] if _is_struct(column.type) and cell.is_valid else cell
        if not cell.is_valid:
            signs.append(_Sign(name, -1, 0))
            continue
        content = cell.as_buffer()
        start = max(content.size // 2 - _COMPARED, 0)
        signs.append(_Sign(name, content.size, crc32(content.slice(start, min(2 * _COMPARED, content.size - start)))))
    return signs


def _signs_of_files(files: Sequence[Path]) -> list[tuple[_Sign, str]]:
    """Return the audio in each row of Arrow files, with the path that stands for it; nothing if one has no audio."""
    found: list[tuple[_Sign, str]] = []
    for file in files:
        table = _mapped(file)
        if (audio := _audio_column(table.schema)) is None:
            return []
        found += [(sign, embedded.path_of(file, audio, row)) for row, sign in enumerate(_signs(table.column(audio)))]
    return found


def _mapped(file: Path) -> Any:
    """Return the table of an Arrow file of either kind, memory-mapped."""
    import pyarrow as pa

    content = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(content).read_all()
    except pa.ArrowInvalid:
        content.seek(0)
        return pa.ipc.open_file(content).read_all()


def _read_arrow(file: Path) -> _Content:
    import pyarrow.compute as pc

    table = _mapped(file)
    if (audio := _audio_column(table.schema)) is None:
        return _Content(_without_bytes(table), None, [], [])
    column = table.column(audio)
    contents = pc.struct_field(column, "bytes") if _is_struct(column.type) else column
    return _Content(_without_bytes(table), audio, _names(column), contents.is_null().to_pylist())


def _read_parquet(file: Path) -> _Content:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        columns = [field.name for field in schema if not _has_bytes(field.type)]
        if (audio := _audio_column(schema)) is None:
            return _Content(opened.read(columns=columns), None, [], [])
        are_empty: list[bool] = []
        for number in range(opened.metadata.num_row_groups):
            group = opened.metadata.row_group(number)
            chunks = [group.column(column) for column in range(group.num_columns)]
            found = [chunk.statistics for chunk in chunks if chunk.path_in_schema in (audio, f"{audio}.bytes")]
            empty = bool(found) and found[0] is not None and found[0].null_count == group.num_rows
            are_empty += [empty] * group.num_rows
        kind = schema.field(audio).type
        names = [""] * len(are_empty)
        if _is_struct(kind) and kind.get_field_index("path") >= 0:
            names = _names(opened.read(columns=[f"{audio}.path"]).column(audio))
        return _Content(opened.read(columns=columns), audio, names, are_empty)


def _names(column: Any) -> list[str]:
    """Return the names that a column of audio gives; empty where it gives none."""
    import pyarrow.compute as pc

    if not _is_struct(column.type) or column.type.get_field_index("path") < 0:
        return [""] * len(column)
    return [name or "" for name in pc.struct_field(column, "path").to_pylist()]


def _frame(table: Any) -> pd.DataFrame:
    """Return a table with names in place of the numbers of classes, which are in its schema."""
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    content = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    for column, feature in content.get("info", {}).get("features", {}).items():
        if column in frame and isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = dict(enumerate(feature.get("names") or []))
            frame[column] = [names.get(number, "") for number in table.column(column).to_pylist()]
    return frame


def _without_bytes(table: Any) -> Any:
    return table.select([field.name for field in table.schema if not _has_bytes(field.type)])


def _audio_column(schema: Any) -> str | None:
    """Return the column called audio, else the first whose cells have bytes; None if none has."""
    found = [field.name for field in schema if _has_bytes(field.type)]
    return "audio" if "audio" in found else found[0] if found else None


def _has_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if _is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_struct(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))
