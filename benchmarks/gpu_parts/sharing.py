"""How fast several trials are that share a GPU, with and without NVIDIA's Multi-Process Service (MPS)."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import torch

from benchmarks.gpu_parts.common import Row, Settings, attempt, epochs_of
from ser.training import Task
from ser.training.device.gpu_memory import limit_memory

CONTROL = "nvidia-cuda-mps-control"
PATIENCE = 60.0
"""Seconds after which a process that does not answer is given up."""

GRACE = 10.0
"""Seconds that the MPS daemon has to start, and to end before it is killed."""


@contextmanager
def mps_daemon() -> Iterator[tuple[str | None, str]]:
    """Run an MPS daemon of our own, with its own folders, and end it.

    Yields:
        The folder of its pipes, for ``CUDA_MPS_PIPE_DIRECTORY``, or None; and the reason where there is no daemon.
    """
    command = shutil.which(CONTROL)
    if command is None:
        yield None, f"{CONTROL} is not installed."
        return
    with tempfile.TemporaryDirectory() as folder:  # in a short path: a socket's name has at most 107 characters
        pipes, logs = Path(folder, "pipes"), Path(folder, "logs")
        pipes.mkdir()
        logs.mkdir()
        environment = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(logs)}
        daemon = subprocess.Popen(
            [command, "-f"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + GRACE
            while daemon.poll() is None and not (pipes / "control").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            if daemon.poll() is None and (pipes / "control").exists():
                yield str(pipes), ""
            else:
                yield None, f"{CONTROL} does not start here: {_last_line(logs)}"
        finally:
            with suppress(subprocess.TimeoutExpired, OSError):
                subprocess.run([command], env=environment, input=b"quit\n", capture_output=True, timeout=GRACE)
                daemon.wait(GRACE)
            with suppress(ProcessLookupError):  # the daemon and its server, should they still run
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()


def _last_line(logs: Path) -> str:
    lines = [line for path in sorted(logs.iterdir()) for line in path.read_text(errors="replace").splitlines()]
    return lines[-1] if lines else "it writes no reason."


def sharing(settings: Settings, task: Task) -> Iterator[Row]:
    """Train in 1, 2, 4 and 8 processes on one GPU at the same time.

    All processes start at once. In each round some of them train for a few seconds, and the others wait.
    """
    with tempfile.TemporaryDirectory() as nobody:  # without MPS, not even with a daemon that runs on the machine
        os.environ["CUDA_MPS_PIPE_DIRECTORY"] = settings.pipes or nobody
        if settings.pipes is not None:  # the daemon has this variable, and numbers what it sees from 0
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        context = multiprocessing.get_context(settings.start)
        most = max(settings.processes)
        barrier, speeds = context.Barrier(most + 1), context.Queue()
        trials = [
            context.Process(target=share, args=(settings, task, number, barrier, speeds), daemon=True)
            for number in range(most)
        ]
        for trial in trials:
            trial.start()

        def measure(processes: int) -> Row:
            if barrier.broken:
                raise RuntimeError("a trial of an earlier round has failed")
            with suppress(BrokenBarrierError):  # a process that fails says why in the queue
                barrier.wait(PATIENCE)
            found = [speeds.get(timeout=PATIENCE) for _ in range(1 if barrier.broken else processes)]
            if faults := [speed for speed in found if isinstance(speed, str)]:
                raise RuntimeError(faults[0])
            row = {"width": settings.widths[-1], "batch": settings.batches[0], "clips_per_second": sum(found)}
            row |= {"slowest": min(found), "mps": settings.pipes is not None}
            if settings.pipes is not None:
                row["clients"] = _clients(Path(settings.pipes).with_name("logs"))
            return row

        for processes in settings.processes:
            yield attempt(measure, processes=processes)
        for trial in trials:
            trial.join(5)


def _clients(logs: Path) -> int:
    """Return how many processes the log of an MPS daemon says have connected."""
    text = "\n".join(path.read_text(errors="replace") for path in logs.iterdir())
    return text.upper().count("NEW CLIENT")


def share(settings: Settings, task: Task, number: int, barrier: Any, speeds: Any) -> None:
    """Warm up, then in each round wait for the others, train for a few seconds, and send clips a second or the error.

    Args:
        settings: Sizes.
        task: Data.
        number: Number of this process; it takes part in a round of more processes than this.
        barrier: Where a round begins.
        speeds: Queue for the results.
    """
    batch, steps = settings.batches[0], 4 * settings.steps
    try:
        torch.set_num_threads(1)
        if settings.device == "cuda":
            limit_memory(1 / max(settings.processes))  # as the study limits a trial to its share
        epochs = epochs_of(settings, task, settings.widths[-1], batch, steps)
        list(islice(epochs, 2))
        for processes in settings.processes:
            barrier.wait(PATIENCE)
            if number >= processes:
                continue
            began, clips = time.perf_counter(), 0
            while time.perf_counter() - began < settings.seconds:
                next(epochs)
                clips += batch * steps
            speeds.put(clips / (time.perf_counter() - began))
    except Exception as error:
        barrier.abort()
        speeds.put(f"{type(error).__name__}: {error}")
