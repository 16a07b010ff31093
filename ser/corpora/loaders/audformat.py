"""Databases in audformat: ``db.yaml`` with tables next to the media, as ``audb`` publishes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from ser.corpora.corpus import count_votes
from ser.corpora.loader_result import LoaderResult
from ser.corpora.names import emotion_of
from ser.corpora.source_files import list_files, official_subset
from ser.corpora.speaker_patterns import missing_speakers
from ser.corpora.tables import result_of
from ser.utils.errors import UserError, first_line, unknown_name

_NAMES = {
    "speaker": ("speaker", "speaker_id", "speakers"),
    "gender": ("gender", "sex"),
    "session": ("session", "dialog", "dialogue"),
}
"""What columns and schemes are called, in lower case."""
_UNLABELLED = "without a label"
_TIED = "without a category that most raters chose"

_Key = tuple[str, float | None, float | None]
"""File, start and end of an utterance in seconds; None for the start and the end of the file."""


@dataclass(frozen=True)
class _Column:
    """Column of a table.

    Args:
        table: Name of the table.
        name: Name of the column.
        scheme: Its scheme, or None.
        is_individual: Whether it holds what one person said.
        cells: What it holds of each utterance or file, as text; without missing values.
        keys: The utterances or files of all rows.
    """

    table: str
    name: str
    scheme: str | None
    is_individual: bool
    cells: Mapping[_Key, str]
    keys: Sequence[_Key]


def load_audformat(
    root: Path, *, table: str = "", column: str = "", speaker: str = "", names: str = ""
) -> LoaderResult:
    """Load a database in audformat; no audio is decoded. The library ``audformat`` reads it.

    Labels are in the columns of the scheme ``emotion``, or else of the one scheme whose labels are emotions, of all
    tables. Columns of human raters are votes if a table has several of them; where there is no other column, the label
    is what most raters say, and utterances with a tie are left out and counted. Speakers, genders and sessions come
    from columns of these names, genders also from the labels of the speaker's scheme. Tables of the splits train, dev
    and test are the official split.

    Reading a database may read pickle files, which can run code: read only what you trust.

    Args:
        root: The folder with ``db.yaml``.
        table: The tables to read labels from, separated by commas; empty for all that have such columns.
        column: The name of the columns, or of their scheme, instead of ``emotion``.
        speaker: A regular expression that finds the speaker in ``/FILE`` where no column names it; its first group.
        names: A file of other names for speakers, sessions, classes and genders, as ``ser.corpora.names.rename`` reads.

    Returns:
        The rows: utterance id = the file without its suffix, with the times of a segment. A data error is an utterance
        with different labels in two tables.

    Raises:
        UserError: If ``audformat`` is not installed, there is no database, or nothing or several things in it may be
            the label or the speaker.
    """
    database = _open(root)
    columns = [column for table in database.tables for column in _columns_of(database, table)]
    chosen = _label_columns(database, columns, root, table, column)
    several = Counter(found.table for found in chosen if found.is_individual)
    individual = [found for found in chosen if found.is_individual and several[found.table] > 1]
    notes = [f"labels are in {', '.join(f'{found.table}: {found.name}' for found in chosen)}"]
    outside: Counter[str] = Counter()
    errors: list[tuple[str, str]] = []
    labels = _labels([found for found in chosen if found not in individual], errors)
    if individual and not labels:
        labels = _plurality(individual, outside)
    if not labels:
        raise UserError(f"corpus 'audformat' at {root}: no utterance has a label; {notes[0]}.")
    unlabelled = {key for found in chosen for key in found.keys} - labels.keys()
    outside[_UNLABELLED] = len(unlabelled) - outside[_TIED]
    keys = list(labels)
    frame = pd.DataFrame(keys, columns=["path", "start", "end"]).assign(label=list(labels.values()))
    frame["utterance_id"] = [_id_of(key) for key in keys]
    for name in _NAMES:
        if cells := _cells_named(columns, name):
            frame[name] = [cells.get(key) or cells.get((key[0], None, None), "") for key in keys]
    if "gender" not in frame and "speaker" in frame:
        genders = _genders_of_speakers(database)
        frame["gender"] = [genders.get(who, "") for who in frame["speaker"]]
    if speaker:
        frame = frame.drop(columns=["speaker", "gender"], errors="ignore")
    elif "speaker" not in frame:
        raise missing_speakers("audformat", root, list(frame["path"]), list(frame["label"]))
    if subsets := _subsets(database, chosen, notes):
        frame["official_subset"] = [subsets.get(key, "") for key in keys]
    result = result_of(
        frame,
        name="audformat",
        where=f"corpus 'audformat' at {root}",
        folder=root,
        notes=notes,
        speaker=speaker,
        names=Path(names).expanduser() if names else None,
    )
    listed = {key[0] for found in chosen for key in found.keys}
    files = list_files(root)
    listed |= {name for name in files.names if name.startswith("db.")}  # the database's own tables
    unused, about_unused = files.unused(listed, "no table with labels lists it")
    result = replace(
        result,
        errors=[*errors, *result.errors],
        outside={name: count for name, count in outside.items() if count},
        notes=(*result.notes, *about_unused),
        unused=unused,
    )
    renamed = dict(zip(frame["label"], result.rows["label"], strict=True))
    return _with_votes(result, individual, renamed) if individual else result


def _open(root: Path) -> Any:
    """Return the database with its tables.

    Raises:
        UserError: If it cannot be read.
    """
    if not (root / "db.yaml").is_file():
        raise UserError(f"{root} is not a database in audformat. Expected: db.yaml and db.TABLE.csv (or .parquet).")
    if find_spec("audformat") is None:
        raise UserError(
            "corpus 'audformat' needs the library audformat, which is not installed: pip install audformat."
        )
    import audformat

    try:
        return audformat.Database.load(str(root), load_data=True)
    except Exception as error:  # of YAML, pandas, pyarrow, pickle and the library's own
        raise UserError(f"database {root} cannot be read: {first_line(error)}") from error


def _columns_of(database: Any, table: str) -> list[_Column]:
    """Return the columns of a table with their cells."""
    frame = database.tables[table].df
    files = [str(file).replace("\\", "/") for file in frame.index.get_level_values("file")]
    starts, ends = (
        _seconds(frame.index.get_level_values(name)) if name in frame.index.names else [None] * len(files)
        for name in ("start", "end")
    )
    keys = list(zip(files, (start or None for start in starts), ends, strict=True))
    columns = []
    for name, column in database.tables[table].columns.items():
        rater = database.raters.get(column.rater_id)
        cells = {
            key: str(cell) for key, cell in zip(keys, frame[name].astype(object), strict=True) if not pd.isna(cell)
        }
        is_individual = rater is not None and rater.type == "human"
        columns.append(_Column(table, name, column.scheme_id, is_individual, cells, keys))
    return columns


def _seconds(times: Iterable[Any]) -> list[float | None]:
    """Return times in seconds, exact to the microsecond; None where there is none, as for the end of the file."""
    return [None if pd.isna(time) else round(time.total_seconds(), 6) for time in times]


def _label_columns(database: Any, columns: Sequence[_Column], root: Path, tables: str, named: str) -> list[_Column]:
    """Return the columns with labels.

    Raises:
        UserError: If an option names what is not there, or it is not clear which columns have the labels.
    """
    wanted = [name.strip() for name in tables.split(",") if name.strip()]
    for name in wanted:
        if name not in database.tables:
            raise unknown_name(f"table of database {root}:", name, database.tables)
    present = [column for column in columns if column.table in wanted or not wanted]
    found = [column for column in present if (named or "emotion") in (column.name, column.scheme)]
    if named and not found:
        raise unknown_name(f"column of database {root}:", named, {column.name for column in present})
    if not found:
        emotional = {scheme for scheme, content in database.schemes.items() if _is_emotional(content)}
        found = [column for column in present if column.scheme in emotional]
    if len({column.scheme for column in found}) != 1:
        shown = "; ".join(f"{column.table}: {column.name}" for column in found or present)
        raise UserError(
            f"corpus 'audformat' at {root}: {'several columns' if found else 'no column'} may have the labels. Give "
            f"the name, --corpus-options column=NAME, or table=NAME. Tables and columns: {shown}."
        )
    return found


def _is_emotional(scheme: Any) -> bool:
    labels = [str(label) for label in (scheme.labels if isinstance(scheme.labels, list | dict) else ())]
    return len(labels) > 1 and sum(emotion_of(label) is not None for label in labels) > len(labels) / 2


def _labels(columns: Sequence[_Column], errors: list[tuple[str, str]]) -> dict[_Key, str]:
    """Return the label of each utterance; those with two are errors."""
    labels: dict[_Key, str] = {}
    first: dict[_Key, str] = {}
    for column in columns:
        for key, label in column.cells.items():
            if labels.setdefault(key, label) == label:
                first.setdefault(key, column.table)
            else:
                problem = f"is {labels[key]!r} in table {first[key]}, but {label!r} in {column.table}"
                errors.append((_id_of(key), problem))
    return labels


def _plurality(raters: Sequence[_Column], outside: Counter[str]) -> dict[_Key, str]:
    """Return what most raters say of each utterance; those with a tie are counted in ``outside``."""
    said: dict[_Key, Counter[str]] = {}
    for rater in raters:
        for key, label in rater.cells.items():
            said.setdefault(key, Counter())[label] += 1
    most = {key: max(counts.values()) for key, counts in said.items()}
    winners = {key: [label for label, n in counts.items() if n == most[key]] for key, counts in said.items()}
    outside[_TIED] = sum(len(labels) > 1 for labels in winners.values())
    return {key: labels[0] for key, labels in winners.items() if len(labels) == 1}


def _with_votes(result: LoaderResult, raters: Sequence[_Column], renamed: Mapping[str, str]) -> LoaderResult:
    """Return the result with the individual votes of raters; ``renamed`` has the new names of labels."""
    said = [
        (_id_of(key), f"{rater.table}: {rater.name}", renamed.get(label, label), False)
        for rater in raters
        for key, label in rater.cells.items()
    ]
    annotations = pd.DataFrame(said, columns=["utterance_id", "annotator", "label", "is_self"])
    classes = tuple(sorted(set(result.rows["label"])))
    votes, others = count_votes(annotations, list(result.rows["utterance_id"]), classes)
    rows = result.rows.assign(votes=pd.Series(votes, index=result.rows.index, dtype=object), other_votes=others)
    return replace(result, rows=rows, classes=classes, annotations=annotations)


def _cells_named(columns: Sequence[_Column], name: str) -> dict[_Key, str]:
    """Return the cells of all columns that have one of the known names for something."""
    cells: dict[_Key, str] = {}
    for column in columns:
        if {column.name.lower(), str(column.scheme).lower()} & set(_NAMES[name]):
            cells |= column.cells
    return cells


def _genders_of_speakers(database: Any) -> dict[str, str]:
    """Return the genders among the labels of the speaker's scheme, or in the table that these are."""
    for name, scheme in database.schemes.items():
        labels = scheme.labels
        if name.lower() not in _NAMES["speaker"] or labels is None:
            continue
        if isinstance(labels, str):
            labels = database.misc_tables[labels].df.to_dict("index")
        if isinstance(labels, dict):
            facts = {str(who): said for who, said in labels.items() if isinstance(said, dict)}
            return {
                who: str(said[key]) for who, said in facts.items() for key in said if key.lower() in _NAMES["gender"]
            }
    return {}


def _subsets(database: Any, columns: Sequence[_Column], notes: list[str]) -> dict[_Key, str]:
    """Return the official subset of each utterance, or nothing if there is not one of each."""
    subsets: dict[_Key, str] = {}
    for column in columns:
        split = database.splits.get(database.tables[column.table].split_id)
        if split is not None and split.type in ("train", "dev", "test"):
            subsets |= dict.fromkeys(column.cells, official_subset(split.type))
    found = sorted(set(subsets.values()))
    if subsets and len(found) < 3:
        notes.append(f"the database's split has no more than {' and '.join(found)}, so it is not the official split")
        return {}
    return subsets


def _id_of(key: _Key) -> str:
    file, start, end = key
    name = Path(file).with_suffix("").as_posix()
    return name if start is None and end is None else f"{name}@{start or 0.0}-{'' if end is None else end}"
