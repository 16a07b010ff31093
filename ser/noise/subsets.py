"""Rows of a corpus that get noise, by subset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = Mapping[str, ArrayLike] | ArrayLike | None
Subsets = dict[str, NDArray[np.int64]]


def subsets_of(rows: Rows, length: int) -> Subsets:
    """Return the ascending row positions of each subset.

    Args:
        rows: None for all rows; else positions, a mask, or a mapping from names of subsets to positions or masks.
        length: Number of rows of the corpus.

    Raises:
        ValueError: If rows are out of range, repeated, or in two subsets.
    """
    if rows is None:
        return {"all": np.arange(length)}
    named = rows if isinstance(rows, Mapping) else {"rows": rows}
    if not named:
        raise ValueError("rows: the mapping has no subsets")
    subsets = {name: _positions(name, value, length) for name, value in named.items()}
    uses = np.bincount(np.concatenate(list(subsets.values())), minlength=length)
    if uses.max(initial=0) > 1:
        raise ValueError(f"rows: row {int(np.argmax(uses > 1))} is given more than once, in {', '.join(subsets)}")
    return subsets


def _positions(name: str, value: ArrayLike, length: int) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.ndim == 1 and array.dtype == bool and len(array) == length:
        return np.flatnonzero(array)
    if array.shape == (0,):
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"rows of {name!r}: expected positions or a mask of {length}, got {array.dtype} of shape {array.shape}"
        )
    if not 0 <= array.min() <= array.max() < length:
        raise ValueError(f"rows of {name!r}: positions must be in 0…{length - 1}")
    return np.sort(array.astype(np.int64))
