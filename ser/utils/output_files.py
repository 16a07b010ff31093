"""Output files: text formats, a folder that can be written, and files that overwrite no others; sizes on disk."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ser.utils.errors import UserError


def to_json(value: Any) -> str:
    """Format a value as indented JSON with sorted keys."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def to_csv(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """Format lines as CSV with LF line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    """Encode texts as UTF-8.

    Args:
        files: Name → text.

    Raises:
        UserError: If a text contains the name of a file or folder that is not UTF-8.
    """
    try:
        return {name: text.encode() for name, text in files.items()}
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 40) : error.end + 20]
        raise UserError(
            f"a file's name is not UTF-8, near {near!r}. Rename it, or the folder that it is in."
        ) from error


def output_folder(path: Path) -> Path:
    """Create the output folder; call this before the work, which may take minutes.

    Args:
        path: Value of ``--output``.

    Returns:
        The absolute path.

    Raises:
        UserError: If the folder cannot be created or written.
    """
    try:
        folder = path.expanduser().absolute()
        str(folder).encode()  # the files contain this path
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, ValueError, RuntimeError) as error:  # NUL or no UTF-8 in the path; home of an unknown user
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--output {str(path)!r} is not writable: {reason}. Choose another folder.") from error


def write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, all under temporary names first; write nothing if one exists with other content.

    Args:
        folder: An existing folder.
        files: Path below the folder → content. A file that has this content already is not written again.

    Raises:
        UserError: If files exist with other content (names them), or the folder cannot be written.
    """
    try:
        there = [name for name in files if os.path.lexists(folder / name)]
        if other := [name for name in there if not _holds(folder / name, files[name])]:
            more = f" and {len(other) - 5} more" if len(other) > 5 else ""
            raise UserError(
                f"{str(folder)!r} has {', '.join(other[:5])}{more} already, with other content. "
                "Choose another --output, or delete them."
            )
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            missing = [name for name in files if name not in there]
            for index, name in enumerate(missing):
                (Path(partial) / str(index)).write_bytes(files[name])
            for index, name in enumerate(missing):
                (folder / name).parent.mkdir(exist_ok=True)
                (Path(partial) / str(index)).replace(folder / name)
    except OSError as error:
        raise UserError(
            f"--output {str(folder)!r} is not writable: {error.strerror or error}. Choose another folder."
        ) from error


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


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


def check_room(folder: Path, needed: int) -> None:
    """Raise unless the disk has enough free space.

    Args:
        folder: A folder on that disk.
        needed: Bytes.

    Raises:
        UserError: If there is not enough; the message has the needed and the free space.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        from rich.filesize import decimal  # not needed where networks are trained

        raise UserError(
            f"{decimal(needed)} more are needed at {str(folder)!r}; {decimal(free)} are free. Free space on that disk."
        )
