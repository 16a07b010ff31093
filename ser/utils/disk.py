"""Space on disk: what a folder takes, and how a message writes it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def bytes_in(folder: Path) -> int:
    """Return the sum of the sizes of all files below a folder; links are not followed, and what vanishes counts 0.

    Args:
        folder: A folder, which need not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = (Path(name) / "file").write_bytes(b"12345")
        ...     print(bytes_in(Path(name)), bytes_in(Path(name) / "missing"))
        5 0
    """
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(path, name).lstat().st_size
    return total


def size_text(size: float) -> str:
    """Return a number of bytes for people.

    Example:
        >>> size_text(1.34e9), size_text(212_400_000), size_text(43_210), size_text(0)
        ('1.3 GB', '212 MB', '43 kB', '0 kB')
    """
    for unit, name, digits in ((1e9, "GB", 1), (1e6, "MB", 0)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size / 1e3:.0f} kB"
