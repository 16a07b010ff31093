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
from typing import Any

from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.options import Sampler, Scheduler
from study.schema import FAILED, FINISHED, SELECTIONS, STOPPED
from study.search.journal import Journal
from study.search.searcher import StudyScheduler, StudySearch
from study.setup.pruners import make_pruner
from study.setup.spaces import load_space
from study.trial.event_log import Outbox
from study.trial.specification import DONE, EPOCH, FAILURE, FAILURE_FINAL, TRIAL_KEY, trial_folder

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
    records: bool = True,
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
        records: Whether to record every epoch.
        rival: A searcher of Ray Tune instead of the study's; then no trial is stopped early or recorded.
    """
    rng = random.Random(seed)
    if rival is None:
        space, pruner = load_space("proselflc", {}), make_pruner(scheduler, GRACE, epochs)
        search = StudySearch(Journal(folder, space, NOISY, seed, sampler, pruner), NOISY, trials)
        decider = StudyScheduler(search)
    events: list[tuple[float, str]] = []
    running: dict[str, tuple[dict[str, Any], Outbox | None, int, float, bool]] = {}
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
            outbox = Outbox(trial_folder(folder, configuration[TRIAL_KEY])) if records else None
            duration, fails = rng.uniform(50.0, 70.0), rng.random() < failing
            running[name] = (configuration, outbox, 0, duration, fails)
            heapq.heappush(events, (now + duration, name))
            outcome.busiest = max(outcome.busiest, len(running))

    fill()
    while events:
        now, name = heapq.heappop(events)
        configuration, outbox, epoch, duration, fails = running[name]
        epoch += 1
        result: dict[str, Any] = {EPOCH: epoch, TRAINING_ITERATION: epoch, DONE: epoch == epochs}
        if fails and epoch == epochs // 2:
            result |= {FAILURE: "training diverged", FAILURE_FINAL: True}
        else:
            result[NOISY.metric] = score(configuration, epoch, rng)
        if outbox is not None and NOISY.metric in result:
            outbox.epoch(epoch, {NOISY.metric: result[NOISY.metric], "train/loss": 1.0 / epoch})
        ended = result[DONE] or FAILURE in result
        if not ended and rival is not None:
            rival.on_trial_result(name, result)
        elif not ended:
            ended = decider.on_trial_result(None, SimpleNamespace(trial_id=name), result) == TrialScheduler.STOP
        if not ended:
            running[name] = (configuration, outbox, epoch, duration, fails)
            heapq.heappush(events, (now + duration, name))
            continue
        (rival or search).on_trial_complete(name, result, error=FAILURE in result)
        if outbox is not None:
            outbox.end(FAILED if FAILURE in result else FINISHED if result[DONE] else STOPPED)
        del running[name]
        fill()
    outcome.seconds = now
    return outcome
