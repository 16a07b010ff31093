"""The end of a trial: what it has reported is on disk first, then its network, which is written in the background."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ser.utils.durable_files import write_durably
from study.trial.checkpoints import epoch_of, newest_checkpoint, remove_checkpoints

ENDED = "ended.json"
"""File of a trial that has trained its last epoch; removed once its network is whole, if that is kept."""


@dataclass(frozen=True)
class Ended:
    """Everything that a trial has reported once its last epoch is over.

    Args:
        epoch: The last epoch.
        events: What it has reported.
        keeps: Whether its network is being written. Where no process writes it any more, it is lost.
    """

    epoch: int
    events: Sequence[dict[str, Any]]
    keeps: bool

    def write(self, folder: Path) -> None:
        """Write the file durably.

        Args:
            folder: Folder of the trial.

        Raises:
            OSError: The disk is full or unavailable.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Ended(3, [{"kind": "epoch"}], keeps=True).write(Path(folder))
            ...     read_ended(Path(folder)), has_network(Path(folder))
            (Ended(epoch=3, events=[{'kind': 'epoch'}], keeps=True), False)
        """
        write_durably(folder / ENDED, json.dumps(asdict(self)).encode())


def read_ended(folder: Path) -> Ended | None:
    """Return what a trial has reported; None if it has not ended, or has its whole network instead.

    Args:
        folder: Folder of the trial.
    """
    try:
        return Ended(**json.loads((folder / ENDED).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # a kill can leave half of the file, before anything of it is recorded
        return None


def has_network(folder: Path) -> bool:
    """Return whether the whole network of a trial that has finished is on disk.

    Args:
        folder: Folder of the trial.
    """
    path, _ = newest_checkpoint(folder)
    ended = read_ended(folder)
    return path is not None and (ended is None or epoch_of(path) >= ended.epoch)


def remove_network(folder: Path) -> None:
    """Remove all states of a trial that has ended for good.

    Args:
        folder: Folder of the trial.
    """
    remove_checkpoints(folder)
    (folder / ENDED).unlink(missing_ok=True)


class Saver:
    """Writer of a process's networks: one at a time, in a thread, while the next trial trains.

    Attributes:
        took: Seconds that saving the last state of an unfinished trial took; 0 before the first.
    """

    def __init__(self) -> None:
        self.took = 0.0
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Begin to write, once the write before has ended.

        Args:
            write: Function that writes.

        Raises:
            BaseException: The error of the write before.
        """
        self.join()
        self._thread = threading.Thread(target=self._run, args=(write,), name="network")
        self._thread.start()

    def check(self) -> None:
        """Raise the error of a write that has ended with one; wait for none."""
        if self._thread is None or not self._thread.is_alive():
            self.join()

    def join(self) -> None:
        """Wait for the write, and raise its error."""
        if self._thread is not None:
            self._thread.join()
        error, self._thread, self._error = self._error, None, None
        if error is not None:
            raise error

    def end(self) -> None:
        """Wait for the write at the end of the process; the study finds out whether the network is there."""
        with suppress(OSError):
            self.join()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # raised where somebody can report it
            self._error = error


def on_host(state: Any) -> Any:
    """Return a state whose tensors are in the host's memory; those that are there already are not copied.

    Args:
        state: Tensor, or anything that may hold some.
    """
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, dict):
        found = copy.copy(state)  # of its own type, with what torch attaches to it
        found.update({key: on_host(value) for key, value in state.items()})
        return found
    return [on_host(value) for value in state] if isinstance(state, list) else state
