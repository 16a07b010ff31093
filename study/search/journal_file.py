"""The file of a journal, behind Optuna's storage: lines of JSON, only ever appended to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from ser.utils.durable_files import drop_torn_lines


class JournalFile(BaseJournalBackend):
    """A journal's file in the hands of one process and one storage; the caller holds the study's lock.

    The format is that of Optuna's own ``JournalFileBackend``. That one takes a lock, opens the file, waits for the disk
    and reads the line back for each line, and remembers where each begins. Here lines are read back from memory, and
    the caller says when to wait for the disk.

    Args:
        path: Made, with its folder, if it is not there; half a line that a power loss left is cut off.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_lines(path)
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._news: list[dict[str, Any]] = []
        self._synced = True

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """All lines, or those that were appended since the last call.

        Args:
            log_number_from: 0 for all.

        Raises:
            ValueError: A line is damaged.
        """
        news, self._news = self._news, []
        return self._whole() if log_number_from == 0 else news

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds lines; they survive a kill, and from ``sync`` on a power loss.

        Raises:
            OSError: The disk is full or gone; what was written of them is taken back.
        """
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        content = "".join(f"{line}\n" for line in lines).encode()
        before = os.fstat(self._file.fileno()).st_size
        self._synced = False
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError:
            self._file.truncate(before)
            raise
        # As they would come from the file: keys are strings there.
        self._news += map(_read, lines)

    def sync(self) -> None:
        """Waits until all lines are on disk.

        Raises:
            OSError: The disk is full or gone.
        """
        if not self._synced:
            os.fsync(self._file.fileno())
            self._synced = True

    def _whole(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            yield from map(_read, file)


def _read(line: str | bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line, object_pairs_hook=_shared)
    return found


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are kept once, not anew for each of thousands of trials."""
    return {sys.intern(name): value for name, value in pairs}
