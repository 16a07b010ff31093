"""Checkpoints of a trial: whole or not there, and known to be whole by the digest in their name."""

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
    """Writes a state and removes the older ones.

    Args:
        state: With its ``epoch``.
        folder: The trial's folder.
        keep: How many checkpoints stay, this one among them.

    Returns:
        The file.

    Raises:
        OSError: The disk is full or gone; what was there before is untouched.
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
        # Torch hides the system's error behind its own.
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
    """The checkpoints in a folder, newest first, whole or not."""
    found = [path for path in folder.glob("epoch_*.pt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (-_epoch(path), path.name))


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[Path]]:
    """The newest whole checkpoint, and the torn ones that are newer.

    Args:
        folder: The trial's folder.
    """
    torn: list[Path] = []
    for path in checkpoints(folder):
        match = _NAME.fullmatch(path.name)
        if match is not None and _digest(path) == match[2]:
            return path, torn
        torn.append(path)
    return None, torn


def load_newest(folder: Path) -> tuple[State | None, list[Path]]:
    """The newest whole state, None if there is none, and the torn files that are newer; no code in it is run."""
    path, torn = newest_checkpoint(folder)
    if path is None:
        return None, torn
    try:
        return load_state(path), torn
    except UserError:
        # Whole, but of another version of torch or of this project.
        return None, [*torn, path]


def _epoch(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
