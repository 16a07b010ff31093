"""What happens when memory runs out, and where the feature store lies."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import torch

from benchmarks.gpu_parts.common import Row, Settings, attempt, epochs_of, time_steps
from ser.training import Task
from ser.training.device import features
from ser.utils.errors import UserError


def memory(settings: Settings, task: Task) -> Iterator[Row]:
    """Train, run out of memory in the training loop, then train again in the same process."""
    narrow, normal = settings.widths[-1], min(settings.batches)
    rows: list[tuple[float, int]] = [(narrow, normal)] * 2
    if settings.device == "cuda":
        rows.insert(1, (settings.widths[0], settings.crowded[0]))
        torch.cuda.set_per_process_memory_fraction(settings.crowded[1])

    def run(width: float, batch: int) -> Row:
        found: Row = {}
        if settings.device == "cuda":
            found["before_gb"] = torch.cuda.memory_allocated() / 1e9
        try:
            found["train/loss"] = next(epochs_of(settings, task, width, batch, 1)).metrics["train/loss"]
        except UserError as error:
            found["message"] = str(error)
        return found

    for width, batch in rows:
        yield attempt(run, width=width, batch=batch)


def store(settings: Settings, task: Task) -> Iterator[Row]:
    """Time epochs whose feature store lies on the GPU, and whose crops are copied from pinned memory step by step."""

    def run(width: float, batch: int, on_device: bool) -> Row:
        with mock.patch.object(features, "STORE_SHARE", features.STORE_SHARE if on_device else 0.0):
            number = 4 * settings.steps
            epochs = epochs_of(settings, task, width, batch, number)
            return {"seconds_of_step": time_steps(settings, lambda: next(epochs), 1, number)}

    for width in dict.fromkeys((settings.widths[0], settings.widths[-1])):
        for on_device in (True, False):
            yield attempt(run, width=width, batch=max(settings.batches), on_device=on_device)
