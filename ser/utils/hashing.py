"""Random numbers and digests that depend only on content, never on row order, process or machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def hashed_uniform(seed: int, purpose: str, ids: Iterable[str]) -> NDArray[np.float64]:
    """Draw a uniform number in the open interval (0, 1) for each id, a pure function of (seed, purpose, id).

    Args:
        seed: Any integer.
        purpose: Name that separates draws which must be independent, such as ``"flip"`` and ``"label"``.
        ids: N identifiers.

    Returns:
        (N,) float64.

    Example:
        >>> hashed_uniform(0, "flip", ["u1", "u2"]).round(3).tolist()
        [0.185, 0.559]
        >>> hashed_uniform(0, "flip", ["u2"]).round(3).tolist()  # independent of the other ids
        [0.559]
    """
    prefix = f"{seed}\x1f{purpose}\x1f"
    bits = [
        int.from_bytes(hashlib.blake2b((prefix + name).encode(), digest_size=8).digest(), "big") >> 12 for name in ids
    ]
    # 52 bits plus a half: exact in float64, and never 0 or 1.
    return (np.array(bits, dtype=np.float64) + 0.5) / 2.0**52


def derived_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from numbers and names, the same on every machine.

    Args:
        parts: Numbers and names that identify the purpose, in a fixed order.

    Returns:
        A seed in [0, 2⁶³).

    Example:
        >>> derived_seed(0, "trial", 3)
        3784810858560829725
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def digest(value: Any) -> str:
    """Compute a 16-digit hexadecimal digest of a JSON-able value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    """Compute a 16-digit hexadecimal digest of a file's content; again only if its size or modification time changes.

    Raises:
        OSError: If the file cannot be read.
    """
    status = path.stat()
    return _digest_of_state(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_of_state(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]
