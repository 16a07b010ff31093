"""Datasets of Hugging Face ``datasets``: Parquet files, folders of ``save_to_disk``, audio folders, loaded datasets."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ser.audio import embedded
from ser.corpora.corpus import Corpus, relative_paths
from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import list_files, official_subset, read_text
from ser.corpora.speaker_patterns import find_speakers, missing_speakers
from ser.corpora.tables import result_of
from ser.corpora.tables.columns import bare, find_roles, parse_choices
from ser.corpora.tables.datasets import DatasetRows, read_dataset, read_dataset_file
from ser.corpora.tables.files import read_table
from ser.corpora.tables.published import id_of_file
from ser.utils.command_names import command_line
from ser.utils.errors import UserError

_LAYOUT = (
    "a Parquet file, a folder of them as on the hub, a folder of save_to_disk, or an audio folder with metadata.csv"
)
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_SHARD = re.compile(r"(.+?)-[0-9]{5}-of-[0-9]{5}.*")
_NUMBERED = re.compile(r"[0-9]+")
_NAME = "huggingface"


def load_huggingface(root: Path, *, columns: str = "", speaker: str = "", names: str = "") -> LoaderResult:
    """Load a dataset of Hugging Face ``datasets`` from disk; no audio is decoded, and the library is not needed.

    Audio stays in the cells of the files. Numbers of classes become their names, which are in the files' schema. The
    splits train, validation and test, by the names of files and folders as on the hub, are the official split;
    without all three the rows are put together.

    Args:
        root: A Parquet file, a folder of them as on the hub, a folder of ``save_to_disk`` (of a ``Dataset`` or a
            ``DatasetDict``), or an audio folder with ``metadata.csv`` or ``metadata.jsonl``.
        columns: Columns for roles that names do not decide, such as ``label=major_emotion,speaker=actor``.
        speaker: A regular expression that finds the speaker in ``/NAME`` of the audio where no column names it; its
            first group.
        names: A file of other names for speakers, sessions, classes and genders.

    Returns:
        The rows: utterance id = the audio's name without its suffix where these are unique, else the split and the row.

    Raises:
        UserError: If there is no such dataset, or nothing names the label or the speaker.
        DataErrors: If columns are contradictory.
    """
    metadata = [file for name in _METADATA for file in sorted(root.rglob(name))] if root.is_dir() else []
    if not metadata:
        rows = [read_dataset_file(file, split) for file, split in _files(root)]
        return _result(rows, root, _NAME, columns, speaker, names)
    rows = [_read_metadata(file, root) for file in metadata]
    result = _result(rows, root, _NAME, columns, speaker, names)
    listed = set(relative_paths([path for part in rows for path in part.frame["path"]], root))
    unused, about_unused = list_files(root).unused(listed, "no metadata file lists it")
    return replace(result, notes=(*result.notes, *about_unused), unused=unused)


def from_dataset(dataset: Any, *, name: str = "dataset", speaker: str = "", **columns: str) -> Corpus:
    """Convert a loaded ``datasets.Dataset`` or ``DatasetDict`` to a corpus; no audio is decoded or copied.

    A loader of your own needs no more than this::

        def load_mine():
            return from_dataset(load_dataset("owner/name"), label="major_emotion", speaker="actor")

    Audio stays in the Arrow files that back the dataset, so that it must have some: ``load_dataset`` and
    ``load_from_disk`` give it. Selected, filtered or shuffled rows are written to a file of the library's cache first.

    Args:
        dataset: The dataset. A ``DatasetDict`` with train, validation and test has them as the official split.
        name: The corpus's name.
        speaker: A column, or a regular expression that finds the speaker in ``/NAME`` of the audio.
        **columns: Columns for other roles, such as ``label="major_emotion"``.

    Raises:
        UserError: If the dataset is in memory alone, or nothing names the label or the speaker.
        DataErrors: If data or columns have errors.
    """
    splits = dict(dataset) if isinstance(dataset, Mapping) else {"": dataset}
    rows = [read_dataset(part, split) for split, part in splits.items()]
    if any(speaker in part.frame for part in rows):
        columns, speaker = {**columns, "speaker": speaker}, ""
    chosen = ",".join(f"{role}={column}" for role, column in columns.items())
    files = {embedded.file_of(path) for part in rows for path in part.frame["path"]}
    root = Path(os.path.commonpath([Path(file).parent for file in files]))
    return _result(rows, root, name, chosen, speaker, "").to_corpus()


def download_advice(root: Path) -> str:
    """Return how to download a dataset of the hub and load it.

    Args:
        root: A folder that does not exist, whose last two names may be the dataset's name on the hub.
    """
    name, folder = "/".join(root.parts[-2:]), root.name
    return (
        f"Datasets of the hub are downloaded first: hf download {shlex.quote(name)} --repo-type dataset --local-dir "
        f"{shlex.quote(folder)} (of pip install huggingface_hub), then {command_line('ser.corpora')} describe {_NAME} "
        f"--root {shlex.quote(folder)}."
    )


def _result(
    rows: Sequence[DatasetRows], root: Path, corpus: str, columns: str, speaker: str, names: str
) -> LoaderResult:
    """Return the rows of all parts with their roles."""
    frame = pd.concat([part.frame for part in rows], ignore_index=True)
    audio = [name for part in rows for name in part.audio]
    splits = [part.split for part in rows for _ in part.audio]
    notes = []
    subsets = {split: _subset(split) for split in dict.fromkeys(splits)}
    if {"train", "validation", "test"} <= set(subsets.values()):
        frame["official_subset"] = [subsets[split] for split in splits]
    elif len(subsets) > 1:
        notes.append(
            f"rows of the splits {', '.join(subsets)} are put together: train, validation and test are not all there"
        )
    if "utterance_id" not in frame:
        frame["utterance_id"] = _ids(audio, splits)
    errors: list[tuple[str, str]] = []
    if speaker:
        frame["speaker"], genders, problems = find_speakers(speaker, audio)
        frame["gender"] = frame.get("gender", pd.Series(genders))
        errors = [(frame["utterance_id"][audio.index(name)], problem) for name, problem in problems]
        frame = frame[frame["speaker"].notna()]
    roles, _ = find_roles(frame, parse_choices(columns, list(frame.columns)))
    if "speaker" not in roles and all(audio):
        labels = frame[roles["label"]].astype(str).tolist() if "label" in roles else [""] * len(frame)
        raise missing_speakers(corpus, root if corpus == _NAME else None, audio, labels)
    result = result_of(
        frame,
        name=corpus,
        where=f"corpus {corpus!r} at {root}",
        folder=root if root.is_dir() else root.parent,
        notes=notes,
        columns=columns,
        names=Path(names).expanduser() if names else None,
        source=root,
    )
    return replace(result, errors=[*errors, *result.errors])


def _ids(audio: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Return the names of audio without suffix, after the split where needed; where these repeat, split and row."""
    stems = [id_of_file(name) for name in audio]
    with_split = [f"{split}/{stem}" for split, stem in zip(splits, stems, strict=True)]
    numbered = [f"{split or 'row'}/{row}" for row, split in enumerate(splits)]
    return next((ids for ids in (stems, with_split) if all(stems) and len(set(ids)) == len(ids)), numbered)


def _subset(split: str) -> str:
    """Return the official subset that a split's name stands for, or an empty string."""
    try:
        return official_subset(split)
    except ValueError:
        return ""


def _files(root: Path) -> list[tuple[Path, str]]:
    """Return the files of a dataset with the names of their splits, empty where they have none.

    Raises:
        UserError: If there are none, or those of several configurations.
    """
    if root.is_file():
        if root.suffix.lower() not in embedded.SUFFIXES:
            raise UserError(f"{root} is no dataset of Hugging Face. Expected: {_LAYOUT}. For tables: the corpus table.")
        return [(root, "")]
    if (root / "dataset_dict.json").is_file():
        splits = _json(root / "dataset_dict.json", "splits")
        return [(file, split) for split in splits for file in _saved(root / split)]
    if (root / "state.json").is_file():
        return [(file, "") for file in _saved(root)]
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in embedded.SUFFIXES)
    if not found:
        raise UserError(
            f"{root} has no dataset of Hugging Face. Expected: {_LAYOUT}. For class folders: corpus folders."
        )
    places = [_place(file, root) for file in found]
    if len(configurations := sorted({str(folder) for folder, _ in places})) > 1:
        raise UserError(
            f"{root} has several configurations: {', '.join(configurations)}. Pass one of them as the root."
        )
    return [(file, split) for file, (_, split) in zip(found, places, strict=True)]


def _place(file: Path, root: Path) -> tuple[Path, str]:
    """Return the folder of a file's configuration, and its split: its name or, if that is a number, its folder's."""
    if _NUMBERED.fullmatch(file.stem) and file.parent != root:
        return file.parent.parent, file.parent.name
    shard = _SHARD.fullmatch(file.stem)
    return file.parent, shard[1] if shard else file.stem


def _saved(folder: Path) -> list[Path]:
    """Return the files of a folder of ``save_to_disk``."""
    return [folder / data["filename"] for data in _json(folder / "state.json", "_data_files")]


def _json(file: Path, key: str) -> Any:
    """Return the value of a key in a JSON file.

    Raises:
        UserError: If there is none.
    """
    try:
        return json.loads(read_text(file))[key]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not of save_to_disk: it has no {key!r}. Save the dataset again.") from error


def _read_metadata(file: Path, root: Path) -> DatasetRows:
    """Return the rows of a metadata file; names in it begin at its folder, whose name is the split.

    Raises:
        UserError: If it cannot be read, or has no column file_name.
    """
    frame, _ = read_table(file)
    if (column := next((name for name in frame.columns if bare(str(name)) == "filename"), None)) is None:
        raise UserError(f"{file} has no column file_name, but {', '.join(map(str, frame.columns))}. Add it.")
    names = frame[column].astype(str).tolist()
    paths = [str(file.parent / name) for name in names]
    split = file.parent.name if file.parent != root else ""
    return DatasetRows(frame.drop(columns=column).assign(path=paths), [Path(name).name for name in names], split)
