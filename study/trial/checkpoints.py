"""Checkpoints of a trial, written atomically, with a digest in their name that shows whether they are whole."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from ser.training.state import State, load_state
from ser.utils.durable_files import sync_folder
from ser.utils.errors import UserError

KEPT = 2
_NAME = re.compile(r"epoch_(\d+)-([0-9a-f]{32})\.pt")


def save_checkpoint(state: State, folder: Path, keep: int = KEPT) -> Path:
    """Write the state of a training run and remove older ones.

    Args:
        state: State, with its ``epoch``.
        folder: Folder of the trial.
        keep: Number of checkpoints to keep, including this one.

    Returns:
        The file.

    Raises:
        OSError: The disk is full or unavailable; earlier checkpoints are unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = save_checkpoint({"epoch": 3, "model": {}}, Path(folder))
        ...     state, torn = load_newest(Path(folder))
        >>> file.name[:10], state["epoch"], torn
        ('epoch_0003', 3, [])
    """
    temporary = folder / f".writing-{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as file, ThreadPoolExecutor(1) as pool:
            torch.save(state, file)
            file.flush()
            synced = pool.submit(os.fsync, file.fileno())
            digest = _digest(temporary)
            synced.result()
        path = folder / f"epoch_{state['epoch']:04d}-{digest}.pt"
        temporary.replace(path)
    except RuntimeError as error:
        # Torch raises its own error on top of the system's.
        temporary.unlink(missing_ok=True)
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    kept = [path, *(other for other in checkpoints(folder) if other != path)][:keep]
    for other in checkpoints(folder):
        if other not in kept:
            other.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint files in a folder, newest first, torn ones included."""
    found = [path for path in folder.glob("epoch_*.pt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (-_epoch(path), path.name))


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the newest whole checkpoint, None if there is none, and the newer files that are torn.

    Args:
        folder: Folder of the trial.
    """
    torn: list[Path] = []
    for path in checkpoints(folder):
        match = _NAME.fullmatch(path.name)
        if match is not None and _digest(path) == match[2]:
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


def _epoch(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
