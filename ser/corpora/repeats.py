"""Rows of one utterance id: equal ones are merged, each of the others has a name by which it alone is excluded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from ser.corpora.corpus import relative_paths


def row_names(rows: pd.DataFrame, root: Path | None) -> list[str]:
    """Return a name for each row by which it alone is excluded.

    Args:
        rows: As ``LoaderResult.rows``. An index of different whole numbers holds the rows' positions from 0.
        root: The folder that paths in names are relative to.

    Returns:
        The utterance ids; where several rows have one, their paths; where several have that too, ``ID (row N)``
        with the position from 1.

    Example:
        >>> rows = pd.DataFrame({"utterance_id": ["u", "v", "v"], "path": ["/a/u.wav", "/a/1.wav", "/a/2.wav"]})
        >>> row_names(rows, Path("/a")), row_names(rows[["utterance_id"]], None)
        (['u', '1.wav', '2.wav'], ['u', 'v (row 2)', 'v (row 3)'])
    """
    is_position = rows.index.is_unique and pd.api.types.is_integer_dtype(rows.index)
    numbers = [position + 1 for position in (rows.index if is_position else range(len(rows)))]
    if "utterance_id" not in rows:
        return [f"row {number}" for number in numbers]
    ids = list(rows["utterance_id"])
    paths = list(rows["path"]) if "path" in rows else [""] * len(ids)
    id_uses, path_uses = Counter(ids), Counter(paths)
    names = []
    for number, id_, path in zip(numbers, ids, paths, strict=True):
        if not isinstance(id_, str) or not id_:
            names.append(f"row {number}")  # as the corpus's own checks name it
        elif id_uses[id_] == 1:
            names.append(id_)
        elif path and path_uses[path] == 1:
            names += relative_paths([path], root)
        else:
            names.append(f"{id_} (row {number})")
    return names


def merge_equal(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Merge rows that are equal in all columns.

    Args:
        rows: As ``LoaderResult.rows``, with unique names as index.

    Returns:
        The first of each set of equal rows; and a note if any were merged.

    Example:
        >>> rows = pd.DataFrame({"utterance_id": ["u", "u", "u", "v"], "label": ["sad", "sad", "calm", "sad"]})
        >>> rows, notes = merge_equal(rows)
        >>> list(rows.index), notes
        ([0, 2, 3], ('rows that are equal to another in all columns and count once: 1, for example u',))
    """
    if "utterance_id" not in rows:
        return rows, ()
    of_one_id = rows[rows.duplicated("utterance_id", keep=False)]
    equal = of_one_id[of_one_id.map(repr).duplicated()]  # as text, because cells may be lists
    if equal.empty:
        return rows, ()
    example = equal["utterance_id"].iloc[0]
    note = f"rows that are equal to another in all columns and count once: {len(equal)}, for example {example}"
    return rows.drop(equal.index), (note,)


def find_repeats(rows: pd.DataFrame, faulty: Collection[str]) -> list[tuple[str, str, str]]:
    """Find the rows whose utterance id an earlier one has.

    Args:
        rows: As ``LoaderResult.rows``, with the names of ``row_names`` as index.
        faulty: Names of rows that have data errors; these are passed over, so that a good row is kept.

    Returns:
        (name of the row, name of the first row of that utterance, what is wrong) for each.

    Example:
        >>> rows = pd.DataFrame({"utterance_id": ["u", "u"], "label": ["sad", "calm"]})
        >>> rows = rows.set_axis(row_names(rows, None))
        >>> find_repeats(rows, ())
        [('u (row 2)', 'u (row 1)', "repeats utterance 'u' of u (row 1), with another label")]
        >>> find_repeats(rows, {"u (row 1)"})
        []
    """
    if "utterance_id" not in rows:
        return []
    found = []
    first: dict[str, int] = {}  # positions
    names = [str(name) for name in rows.index]
    for position, (name, id_) in enumerate(zip(names, rows["utterance_id"], strict=True)):
        if not isinstance(id_, str) or not id_ or name in faulty or first.setdefault(id_, position) == position:
            continue
        one, other = rows.iloc[first[id_]].map(repr), rows.iloc[position].map(repr)
        different = ", ".join(rows.columns[one != other])
        before = names[first[id_]]
        found.append((name, before, f"repeats utterance {id_!r} of {before}, with another {different}"))
    return found
