"""Checkpoints of a trial, each with a small file next to it that holds its digest, which shows whether it is whole.

A file is written once, under its own name, and never renamed, appended to or locked, so that any place where nodes meet
serves. Each attempt at a trial removes files of its own and of earlier attempts alone: a process that was taken for
dead does not harm its successor.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from ser.training.state import State, load_state
from ser.utils.durable_files import sync_folder
from ser.utils.errors import UserError

KEPT = 2
DIGEST = ".blake2b"
"""Suffix of the file next to a checkpoint; in studies of earlier versions the digest is in the checkpoint's name."""

_NAME = re.compile(r"epoch_(\d+)-(?:(\d{1,9})|([0-9a-f]{32}))\.pt")


def save_checkpoint(state: State, folder: Path, attempt: int = 0, keep: int = KEPT) -> Path:
    """Write the state of a training run and remove older ones.

    Args:
        state: State, with its ``epoch``.
        folder: Folder of the trial.
        attempt: Number of the attempt at the trial.
        keep: Number of checkpoints to keep, including this one.

    Returns:
        The file.

    Raises:
        OSError: The disk is full or unavailable; earlier checkpoints are unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = save_checkpoint({"epoch": 3, "model": {}}, Path(folder), attempt=2)
        ...     state, torn = load_newest(Path(folder))
        >>> file.name, state["epoch"], torn
        ('epoch_0003-2.pt', 3, [])
    """
    path = folder / f"epoch_{state['epoch']:04d}-{attempt}.pt"
    try:
        with path.open("wb") as file, ThreadPoolExecutor(1) as pool:
            torch.save(state, file)
            file.flush()
            synced = pool.submit(os.fsync, file.fileno())
            digest = _digest(path)
            synced.result()
        with path.with_suffix(DIGEST).open("w", encoding="utf-8") as file:
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:
        # Torch raises its own error on top of the system's.
        _remove(path)
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    except BaseException:
        _remove(path)
        raise
    sync_folder(folder)
    kept = [path, *(other for other in checkpoints(folder) if other != path)][:keep]
    _remove_others(folder, kept, attempt)
    return path


def remove_checkpoints(folder: Path, attempt: int | None = None) -> None:
    """Remove the checkpoints of a trial.

    Args:
        folder: Folder of the trial.
        attempt: Number of the attempt whose files and those of earlier ones are removed; None for all.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for attempt in (1, 2):
        ...         file = save_checkpoint({"epoch": 3, "model": {}}, Path(folder), attempt)
        ...     remove_checkpoints(Path(folder), attempt=1)
        ...     print([path.name for path in checkpoints(Path(folder))])
        ['epoch_0003-2.pt']
    """
    _remove_others(folder, (), attempt)


def _remove_others(folder: Path, kept: Collection[Path], attempt: int | None) -> None:
    for other in checkpoints(folder):
        if other not in kept and (attempt is None or _attempt(other) <= attempt):
            _remove(other)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint files in a folder, newest attempt and epoch first, torn ones included."""
    found = [path for path in folder.glob("epoch_*.pt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (-_attempt(path), -epoch_of(path), path.name))


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the newest whole checkpoint, None if there is none, and the newer files that are torn.

    Args:
        folder: Folder of the trial.
    """
    torn: list[Path] = []
    for path in checkpoints(folder):
        if _digest(path) == _expected(path):
            return path, torn
        torn.append(path)
    return None, torn


def load_newest(folder: Path) -> tuple[State | None, list[Path]]:
    """Load the newest whole state without running code that it may hold.

    Args:
        folder: Folder of the trial.

    Returns:
        The state, None if there is none, and the newer files that are torn or not readable.
    """
    path, torn = newest_checkpoint(folder)
    if path is None:
        return None, torn
    try:
        return load_state(path), torn
    except UserError:
        # The file is whole, but of another version of torch or of this project.
        return None, [*torn, path]


def epoch_of(path: Path) -> int:
    """Return the epoch after which a checkpoint was saved."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _attempt(path: Path) -> int:
    """Return the number of the attempt that wrote a file; 0 in studies of earlier versions."""
    match = _NAME.fullmatch(path.name)
    return int(match[2] or 0) if match else 0


def _expected(path: Path) -> str:
    """Return the digest that a whole file has; empty if it was not written to its end."""
    match = _NAME.fullmatch(path.name)
    if match is not None and match[3]:
        return match[3]
    try:
        return path.with_suffix(DIGEST).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _remove(path: Path) -> None:
    path.with_suffix(DIGEST).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
