"""Files that survive a kill, a full disk and a power loss: the old content or the new one, never half of it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

# More bytes than are ever appended before the disk is waited for. Zeros further up are damage, and told.
UNSYNCED = 1 << 16


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that whoever reads it sees the old text or the new one.

    Raises:
        OSError: The disk is full or gone; the old text is untouched.
    """
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that whoever reads it sees the old content or the new one.

    Raises:
        OSError: The disk is full or gone; the old content is untouched.
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


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Adds a line, durably; if the disk is full, what was written of it is taken back.

    Raises:
        OSError: The disk is full or gone.
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
    """Cuts a file of JSON lines behind the last whole line that was certainly written; a missing file stays missing."""
    try:
        file = path.open("rb+")
    except FileNotFoundError:
        return
    with file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        # A power loss can also leave zeros in place of the last lines, or of some of those not waited for.
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
