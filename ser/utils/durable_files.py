"""Writing files so that a kill, a full disk or a power loss leaves the old or the new content, never a part of it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

# More bytes than are ever appended between two fsyncs. Zeros further up are damage that readers report.
UNSYNCED = 1 << 16


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old text or the new one.

    Raises:
        OSError: If the disk is full or not available; the old text is unchanged.
    """
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one.

    Raises:
        OSError: If the disk is full or not available; the old content is unchanged.
    """
    temporary = path.with_name(f".{path.name}.writing-{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file under its own name alone; a kill can leave a part of it, which its reader has to recognise.

    For folders that machines share, where renaming need not be safe.

    Raises:
        OSError: If the disk is full or not available.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush new names in a folder to the disk, so that they survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append a line and flush it to the disk; remove what is written of it if the disk is full.

    Raises:
        OSError: If the disk is full or not available.
    """
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        content = f"{line}\n".encode()
        try:
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


def drop_torn_lines(path: Path) -> None:
    """Cut a file of JSON lines after the last line that is known to be complete; ignore a missing file."""
    try:
        file = path.open("rb+")
    except FileNotFoundError:
        return
    with file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        # A power loss can also leave zeros in place of the last lines, or of some of those not yet flushed.
        if (zeros := content.find(b"\0", max(0, whole - UNSYNCED))) >= 0:
            whole = content.rfind(b"\n", 0, zeros) + 1
        while whole and not _is_json(line := content[content.rfind(b"\n", 0, whole - 1) + 1 : whole]):
            whole -= len(line)
        if whole < len(content):
            file.truncate(whole)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
