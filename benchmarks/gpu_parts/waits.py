"""Whether a training step waits for the GPU."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.gpu_parts.common import Row, Settings, attempt, epochs_of
from ser.training import Task

ROOT = Path(__file__).resolve().parents[2]
BATCH, STEPS = 4, 8


def waits(settings: Settings, task: Task) -> Iterator[Row]:
    """Let torch raise an error where a step of the training loop waits for the GPU, and count the waits, by loss."""

    def count(loss: str) -> Row:
        first = first_wait(settings, task, loss)
        if first is None:
            return {"waits_per_step": 0.0}
        # What an epoch does outside its steps is the same in both and cancels.
        counts = places(settings, task, loss, 2 * STEPS)
        counts.subtract(places(settings, task, loss, STEPS))
        found = {place: number / STEPS for place, number in counts.items() if number}
        where = ", ".join(f"{place} × {number:g}" for place, number in found.items())
        return {"waits_per_step": sum(found.values()), "first": first, "where": where}

    places(settings, task, "cross_entropy", 1)  # warms up
    for name in settings.losses:
        yield attempt(count, loss=name)


def first_wait(settings: Settings, task: Task, loss: str) -> str | None:
    """Train an epoch and return the line of the first wait after its first step and before its last one has ended.

    An epoch may wait before its first step, for what it uploads, and after its last one, for its metrics.
    """
    epochs = epochs_of(settings, task, settings.widths[-1], BATCH, STEPS, loss)
    next(epochs)  # libraries are loaded and memory is reserved in the first epoch
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        set_mode(settings, "error" if done < STEPS else "default")

    hook = register_optimizer_step_post_hook(count)
    try:
        list(islice(epochs, 1))
    except RuntimeError as error:
        if "synchroni" not in str(error):
            raise
        return project_line(error)
    finally:
        hook.remove()
        set_mode(settings, "default")
    if done != STEPS:
        raise RuntimeError(f"{done} steps of the optimizer were seen instead of {STEPS}")
    return None


def places(settings: Settings, task: Task, loss: str, steps: int) -> Counter[str]:
    """Count the warnings of waits in an epoch, by file and line."""
    epochs = epochs_of(settings, task, settings.widths[-1], BATCH, steps, loss)
    with warnings.catch_warnings(record=True) as caught, mode(settings, "warn"):
        warnings.simplefilter("always")
        next(epochs)
    return Counter(f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroni" in str(one.message))


@contextmanager
def mode(settings: Settings, name: str) -> Iterator[None]:
    """Set what torch does where an operation waits for the GPU."""
    set_mode(settings, name)
    try:
        yield
    finally:
        set_mode(settings, "default")


def set_mode(settings: Settings, name: str) -> None:
    """Set what torch does where an operation waits: ``default``, ``warn`` or ``error``; without a GPU nothing waits."""
    if settings.device == "cuda":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode is a prototype, and warns of that
            torch.cuda.set_sync_debug_mode(name)


def project_line(error: BaseException) -> str:
    """Return the innermost line of this project in the traceback of an error."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if Path(one.filename).is_relative_to(ROOT)]
    last = frames[-1]
    return f"{Path(last.filename).relative_to(ROOT)}:{last.lineno}: {last.line}"
