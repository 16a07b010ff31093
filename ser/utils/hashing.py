"""Randomness and identity that depend on content alone, never on row order, process or machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def hashed_uniform(seed: int, purpose: str, ids: Iterable[str]) -> NDArray[np.float64]:
    """One number in the open interval (0, 1) for each id, a pure function of (seed, purpose, id).

    Args:
        seed: Any integer.
        purpose: Separates draws that must be independent, such as ``"flip"`` and ``"label"``.
        ids: N identifiers.

    Returns:
        (N,) float64.
    """
    prefix = f"{seed}\x1f{purpose}\x1f"
    bits = [
        int.from_bytes(hashlib.blake2b((prefix + name).encode(), digest_size=8).digest(), "big") >> 12 for name in ids
    ]
    # 52 bits plus a half: exact in float64, and never 0 or 1.
    return (np.array(bits, dtype=np.float64) + 0.5) / 2.0**52


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from any mixture of numbers and names, the same on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def digest(value: Any) -> str:
    """A 16-digit hexadecimal digest of a JSON-able value (key order does not matter)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    """A 16-digit hexadecimal digest of a file's content, the same wherever the file lies.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]
