"""Live progress of a search: a bar over epochs, and a line for each trial that ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pyarrow.fs import LocalFileSystem
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from study.records import Selection
from study.results import make_console
from study.searcher import TRIAL_KEY
from study.trainable import EPOCH


class KeepLastCheckpoint(Callback):  # type: ignore[misc]
    """Removes a finished trial's older checkpoints, which Tune keeps; at width 1 each holds a gigabyte."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Leaves the last checkpoint alone in the trial's folder."""
        if trial.checkpoint is None or not isinstance(trial.checkpoint.filesystem, LocalFileSystem):
            return
        last = Path(trial.checkpoint.path)
        for folder in last.parent.glob("checkpoint_*"):
            if folder != last:
                shutil.rmtree(folder)


class SearchProgress(Callback):  # type: ignore[misc]
    """Shows one search on the terminal.

    Args:
        title: Space and noise level.
        trials: Planned trials.
        epochs: Planned epochs of a trial.
        selection: What the search looks for.
    """

    def __init__(self, title: str, trials: int, epochs: int, selection: Selection) -> None:
        self._title, self._trials, self._epochs, self._selection = title, trials, epochs, selection
        self._best: float | None = None
        self._progress: Progress | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks; a live display cannot be, and begins anew after a restore.
        return {**self.__dict__, "_progress": None}

    def _show(self, trials: list[Trial]) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("epochs"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=make_console(),
            )
            self._progress.add_task(self._title, total=self._trials * self._epochs)
            self._progress.start()
        done = sum((trial.last_result or {}).get(EPOCH, 0) for trial in trials)
        best = "" if self._best is None else f", best {self._selection.metric} {self._best:.3f}"
        self._progress.update(
            self._progress.task_ids[0],
            completed=done,
            description=f"{escape(self._title)}: {len(trials)} of {self._trials} trials begun{best}",
        )

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Shows the bar, long before the first epoch ends."""
        self._show(trials)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Moves the bar."""
        self._show(trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Prints the trial's score, and whether it is the best so far."""
        score = (trial.last_result or {}).get(self._selection.metric)
        self._show(trials)
        if score is None:
            return
        sign = 1 if self._selection.mode == "max" else -1
        better = self._best is None or sign * score > sign * self._best
        self._best = score if better else self._best
        self._print(
            trials,
            f"trial {trial.config[TRIAL_KEY]}: {self._selection.metric} {score:.3f}{' (best)' * better}",
        )

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Prints that the trial failed."""
        self._print(trials, f"trial {trial.config[TRIAL_KEY]}: failed")

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Ends the display."""
        if self._progress is not None:
            self._show(trials)
            self._progress.stop()
            self._progress = None

    def _print(self, trials: list[Trial], line: str) -> None:
        self._show(trials)
        assert self._progress is not None
        self._progress.console.print(f"  {escape(self._title)} {line}", highlight=False)
