"""A feature store that is being built: a folder that an interruption or a kill leaves and the next build resumes."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAMES = "frames.f32"
RECORD = "complete.jsonl"
FLUSH_SECONDS = 5.0
"""At most so much work is lost by a kill, besides what the threads are computing."""


class PartialStore:
    """Frames of the first utterances of a corpus, and a record of each: number of frames, digest, level.

    The record of an utterance is written after its frames are on the disk. Opening cuts off what has no record, and
    records whose frames are not there.

    Args:
        folder: Folder; created if needed.
        size: Values of a frame.
    """

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.size = folder, size
        self.counts: list[int] = []
        self.content: list[str] = []
        self.levels: list[tuple[float, float]] = []
        self._frames = (folder / FRAMES).open("ab")
        self._record = (folder / RECORD).open("ab")
        self._resume()
        self._pending: list[str] = []
        self._flushed = time.monotonic()

    def __len__(self) -> int:
        return len(self.counts)

    def append(self, frames: NDArray[np.float32], digest: str, level: tuple[float, float]) -> None:
        """Add the next utterance; it is safe from a kill after some seconds at the latest.

        Args:
            frames: (T, size).
            digest: Digest of its samples.
            level: Level in dB and peak.
        """
        self._frames.write(np.ascontiguousarray(frames, dtype="<f4").data)
        self._add(len(frames), digest, (float(level[0]), float(level[1])))
        self._pending.append(json.dumps([self.counts[-1], digest, *self.levels[-1]]) + "\n")
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write all frames and then their records to the disk."""
        to_disk(self._frames)
        self._record.write("".join(self._pending).encode())
        to_disk(self._record)
        self._pending.clear()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Close the files; what is not flushed is written without waiting for the disk. Remove an empty folder."""
        self._frames.close()
        with self._record:
            self._record.write("".join(self._pending).encode())
        if not self.counts:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _add(self, count: int, digest: str, level: tuple[float, float]) -> None:
        self.counts.append(count)
        self.content.append(digest)
        self.levels.append(level)

    def _resume(self) -> None:
        """Read the records of an earlier build up to a torn one or one that lacks its frames; cut off the rest."""
        there = (self.folder / FRAMES).stat().st_size // (4 * self.size)
        kept = 0
        for line in (self.folder / RECORD).read_bytes().splitlines(keepends=True):
            try:
                count, digest, *level = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or sum(self.counts) + count > there:
                break
            self._add(count, digest, (level[0], level[1]))
            kept += len(line)
        self._record.truncate(kept)
        self._frames.truncate(4 * self.size * sum(self.counts))


def to_disk(file: Any) -> None:
    """Flush a file and wait until the disk has it."""
    file.flush()
    os.fsync(file.fileno())
