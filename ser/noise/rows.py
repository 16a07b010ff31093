"""Which rows of a corpus get noise, part by part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = Mapping[str, ArrayLike] | ArrayLike | None
Parts = dict[str, NDArray[np.int64]]


def parts_of(rows: Rows, length: int) -> Parts:
    """Ascending row positions of each part.

    Args:
        rows: None is all; else positions, a mask, or a mapping from names of parts to these.
        length: Rows of the corpus.

    Raises:
        ValueError: Out of range, repeated, or in two parts.
    """
    if rows is None:
        return {"all": np.arange(length)}
    named = rows if isinstance(rows, Mapping) else {"rows": rows}
    if not named:
        raise ValueError("rows: no parts")
    parts = {name: _positions(name, value, length) for name, value in named.items()}
    uses = np.bincount(np.concatenate(list(parts.values())), minlength=length)
    if uses.max(initial=0) > 1:
        raise ValueError(f"rows: row {int(np.argmax(uses > 1))} is given more than once, in {', '.join(parts)}")
    return parts


def _positions(name: str, value: ArrayLike, length: int) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.ndim == 1 and array.dtype == bool and len(array) == length:
        return np.flatnonzero(array)
    if array.shape == (0,):
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"rows of {name!r}: not positions, nor a mask of {length}: {array.dtype} of shape {array.shape}"
        )
    if not 0 <= array.min() <= array.max() < length:
        raise ValueError(f"rows of {name!r}: positions must lie in 0…{length - 1}")
    return np.sort(array.astype(np.int64))
