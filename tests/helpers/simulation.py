"""A simulated study of many trials in one process: searcher, scheduler and records are real, training is made up.

Trials run in parallel in simulated time; the next event comes from a queue.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.options import Sampler, Scheduler
from study.schema import SELECTIONS
from study.search.journal import Journal
from study.search.searcher import StudyScheduler, StudySearch
from study.search.trial_logs import TrialLogs
from study.setup.pruners import make_pruner
from study.setup.spaces import load_space
from study.trial.specification import (
    DEVICE,
    DONE,
    EPOCH,
    EVENTS,
    FAILURE,
    FAILURE_FINAL,
    TrialContext,
    epoch_event,
)
from tests.helpers.trial_context import DATASET, runs_of

NOISY = SELECTIONS["noisy"]
GRACE = 2


@dataclass
class Simulated:
    """Result of a simulation.

    Args:
        latencies: Wall seconds of each suggestion.
        seconds: Simulated seconds from the first trial to the end.
        busiest: Largest number of trials at a time.
    """

    latencies: list[float]
    seconds: float
    busiest: int


def score(configuration: Mapping[str, Any], epoch: int, rng: random.Random) -> float:
    """Return a made-up score that grows with noise and is best at a learning rate of .001 and a transit time of .5."""
    quality = -abs(math.log10(configuration["optimizer.lr"]) + 3) - abs(configuration["loss.transit_time_ratio"] - 0.5)
    return 0.6 + 0.1 * quality + 0.02 * epoch + rng.gauss(0.0, 0.01)


def simulate(
    folder: Path,
    trials: int,
    slots: int,
    epochs: int,
    *,
    sampler: Sampler = "tpe",
    scheduler: Scheduler = "asha",
    failing: float = 0.02,
    seed: int = 0,
    rival: Searcher | None = None,
) -> Simulated:
    """Run a study to its end.

    Args:
        folder: Folder of the search.
        trials: Number of trials.
        slots: Number of trials at a time.
        epochs: Epochs of a trial.
        sampler: Sampler that suggests configurations.
        scheduler: Scheduler that stops trials early.
        failing: Share of trials that diverge.
        seed: Seed of durations, scores and failures.
        rival: A searcher of Ray Tune instead of the study's; then no trial is stopped early or recorded.
    """
    rng = random.Random(seed)
    if rival is None:
        space, pruner = load_space("proselflc", {}), make_pruner(scheduler, GRACE, epochs)
        context = TrialContext(cast(Any, SimpleNamespace(absent={})), {}, seed, 1, "cpu", NOISY.metric, folder)
        courier: Any = SimpleNamespace(client=None, add=lambda deliveries: None)
        logs = TrialLogs(context, {}, DATASET, runs_of("0", "simulated"), courier)
        search = StudySearch(Journal(folder, space, NOISY, seed, sampler, pruner), logs, NOISY, trials, slots)
        decider = StudyScheduler(search)
    events: list[tuple[float, str]] = []
    running: dict[str, tuple[dict[str, Any], int, float, bool]] = {}
    outcome = Simulated([], 0.0, 0)
    now, names = 0.0, 0

    def fill() -> None:
        nonlocal names
        while len(running) < slots and names < trials:
            names += 1
            name = f"{folder.name}-{names}"
            began = time.perf_counter()
            configuration = (rival or search).suggest(name)
            if configuration == Searcher.FINISHED or configuration is None:
                return
            outcome.latencies.append(time.perf_counter() - began)
            if rival is None:
                decider.on_trial_result(None, SimpleNamespace(trial_id=name), {DEVICE: "node", EPOCH: 0})
            duration, fails = rng.uniform(50.0, 70.0), rng.random() < failing
            running[name] = (configuration, 0, duration, fails)
            heapq.heappush(events, (now + duration, name))
            outcome.busiest = max(outcome.busiest, len(running))

    fill()
    while events:
        now, name = heapq.heappop(events)
        configuration, epoch, duration, fails = running[name]
        epoch += 1
        result: dict[str, Any] = {EPOCH: epoch, TRAINING_ITERATION: epoch, DONE: epoch == epochs}
        if fails and epoch == epochs // 2:
            result |= {FAILURE: "training diverged", FAILURE_FINAL: True}
        else:
            result[NOISY.metric] = score(configuration, epoch, rng)
        if NOISY.metric in result:
            metrics = {NOISY.metric: result[NOISY.metric], "train/loss": 1.0 / epoch}
            result[EVENTS] = [epoch_event(epoch, metrics)]
        ended = result[DONE] or FAILURE in result
        if not ended and rival is not None:
            rival.on_trial_result(name, result)
        elif not ended:
            ended = decider.on_trial_result(None, SimpleNamespace(trial_id=name), result) == TrialScheduler.STOP
        if not ended:
            running[name] = (configuration, epoch, duration, fails)
            heapq.heappush(events, (now + duration, name))
            continue
        (rival or search).on_trial_complete(name, result)
        del running[name]
        fill()
    outcome.seconds = now
    return outcome
