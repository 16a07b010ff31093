"""What a study will cost, before it starts, and what it has cost, once it has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console

from ser.config import Config
from ser.features.store import FeatureStore
from ser.training.classical import train_classical
from ser.training.loop import State, train
from ser.training.task import Task
from ser.utils.parallel import cores
from study.backend.cluster import Slots, slots_of
from study.schema import FAILED, FINISHED, STOPPED
from study.setup.prepare import Job, Preparation
from study.trial.event_log import Outbox

STEPS_FEW, STEPS_MORE = 2, 6
VALIDATION_ROWS = 64
MEGABYTE = 1e6


@dataclass(frozen=True)
class TrialCost:
    """What one trial needs.

    Args:
        seconds: To train all epochs, validation included.
        weights: Bytes that a finished trial keeps.
        state: Bytes of a checkpoint while it trains; there are two.
    """

    seconds: float
    weights: float
    state: float


def show_plan(prepared: Preparation, console: Console) -> int:
    """Prints trials, epochs, expected hours and disk of a study that has not begun.

    Args:
        prepared: The study.
        console: Where to.

    Returns:
        The exit code.
    """
    options, jobs = prepared.options, prepared.jobs
    gpus = torch.cuda.device_count()
    slots = slots_of([{"CPU": float(cores()), "GPU": float(gpus)}], options)
    spaces = {job.space.name: job for job in jobs}
    measured = {name: measure(prepared, job, slots) for name, job in spaces.items()}
    trials = options.planned_trials
    seconds = sum(measured[job.space.name].seconds for job in jobs) * trials
    disk = sum(measured[job.space.name].weights for job in jobs) * trials
    disk += max(cost.state for cost in measured.values()) * 2 * slots.count
    wall = seconds / slots.count

    def tell(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    total = len(jobs) * trials
    tell(
        f"{len(jobs)} searches × {trials} trials × {prepared.epochs} epochs: {total} trials, "
        f"{total * prepared.epochs} epochs"
    )
    for name, cost in measured.items():
        tell(
            f"  {name}: {_duration(cost.seconds)} a trial, measured on {'a GPU' if slots.gpus else 'CPUs'} of this "
            "machine"
        )
    tell(
        f"  {_duration(wall)} with {slots.count} trial{'s' * (slots.count > 1)} at a time here, "
        f"{_duration(seconds)} one by one"
    )
    if slots.count > 1:
        tell("  trials that run side by side slow each other down; the measured one ran alone")
    if options.scheduler != "none":
        tell(f"  --scheduler {options.scheduler} can only make that less")
    tell(f"  {disk / MEGABYTE:,.0f} MB of checkpoints below {options.storage_path}")
    if not any(path.name != ".lock" for path in prepared.folder.iterdir()):
        prepared.lock.release()
        (prepared.folder / ".lock").unlink(missing_ok=True)
        prepared.folder.rmdir()
    return 0


def measure(prepared: Preparation, job: Job, slots: Slots) -> TrialCost:
    """Times a few steps of a space's first configuration, and some validation, and scales them up.

    Args:
        prepared: The study.
        job: One of its searches.
        slots: What a trial gets.
    """
    values = next(iter(job.space.examples()))
    config = Config.from_dotted({**prepared.base, **values})
    task = job.task
    if config.model.is_classical:
        began = time.monotonic()
        train_classical(config.model, FeatureStore.open(task.store).frames, task, prepared.options.seed)
        return TrialCost(time.monotonic() - began, 0.0, 0.0)
    device = "cuda" if slots.gpus else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(slots.cpus)))
    try:
        few, state = _time(config, task, STEPS_FEW, device)
        few = min(few, _time(config, task, STEPS_FEW, device)[0])  # the first one warms up
        more, _ = _time(config, task, STEPS_MORE, device)
    finally:
        torch.set_num_threads(threads)
    step = max(more - few, 0.0) / (STEPS_MORE - STEPS_FEW)
    per_row = max(few - STEPS_FEW * step, 0.0) / min(VALIDATION_ROWS, len(task.validation))
    steps = -(-len(task.train) // config.training.batch_size)
    seconds = config.training.epochs * (steps * step + len(task.validation) * per_row)
    return TrialCost(seconds, _bytes(state["model"]), _bytes(state["model"]) + _bytes(state["optimizer"]))


def _time(config: Config, task: Task, steps: int, device: str) -> tuple[float, State]:
    """Seconds of one epoch over so many batches and a few validation rows, and its state."""
    rows = np.arange(steps * config.training.batch_size) % len(task.train)
    small = replace(
        task,
        train=task.train.take(rows),
        validation=task.validation.take(np.arange(len(task.validation))[:VALIDATION_ROWS]),
    )
    one = replace(config, training=replace(config.training, epochs=1))
    began = time.monotonic()
    record = next(train(one, small, seed=0, device=device))
    return time.monotonic() - began, record.state


def _bytes(state: object) -> float:
    if isinstance(state, torch.Tensor):
        return float(state.numel() * state.element_size())
    if isinstance(state, dict):
        return sum(map(_bytes, state.values()))
    if isinstance(state, (list, tuple)):
        return sum(map(_bytes, state))
    return 0.0


def costs(prepared: Preparation) -> list[str]:
    """What the study's trials have cost so far, in lines for people, from the records in its folder."""
    spent = {FINISHED: 0.0, STOPPED: 0.0, FAILED: 0.0}
    for job in prepared.jobs:
        for folder in sorted((prepared.folder / job.folder).glob("trial_*")):
            outbox = Outbox(folder)
            spent[outbox.status or STOPPED] += outbox.seconds
    total = sum(spent.values())
    if not total:
        return []
    lost = [
        f"{_duration(spent[name])} ({spent[name] / total:.0%}) on {name} trials"
        for name in (STOPPED, FAILED)
        if spent[name]
    ]
    return [f"{_duration(total)} of training" + (f"; of it {' and '.join(lost)}" if lost else "")]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
