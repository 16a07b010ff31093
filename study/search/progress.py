"""Live progress of a search in the terminal: a bar over epochs, and a line for each trial that ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

from study.console import make_console
from study.schema import FINISHED, STOPPED, Selection
from study.search.journal import Entry
from study.trial.specification import DONE, EPOCH, FAILURE, SUSPENDED, TRIAL_KEY


class SearchProgress(Callback):  # type: ignore[misc]
    """Callback of Ray Tune that shows one search in the terminal.

    Args:
        title: Space and noise level.
        earlier: Trials of earlier sessions.
        trials: Number of planned trials.
        epochs: Planned epochs of a trial.
        selection: Score that the search maximises or minimises.
        over: Words after the score of a trial, by its number, where UAR is over fewer than all classes; None for none.
    """

    def __init__(
        self,
        title: str,
        earlier: Sequence[Entry],
        trials: int,
        epochs: int,
        selection: Selection,
        over: Mapping[int, str] | None = None,
    ) -> None:
        self._title, self._trials, self._epochs, self._selection = title, trials, epochs, selection
        self._over = {number: f" {words}" for number, words in (over or {}).items() if words}
        ended = [entry for entry in earlier if entry.status in (FINISHED, STOPPED)]
        self._ended, self._ended_epochs = len(ended), sum(entry.epochs for entry in ended)
        scores = [entry.value for entry in ended if entry.status == FINISHED and entry.value is not None]
        best = max if selection.mode == "max" else min
        self._best: float | None = best(scores) if scores else None
        self._progress: Progress | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks, and a live display cannot be pickled.
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
        # A trial whose process has died is another one to Tune when it is tried again.
        epochs: dict[int, int] = {}
        for trial in trials:
            number = trial.config[TRIAL_KEY]
            epochs[number] = max(epochs.get(number, 0), (trial.last_result or {}).get(EPOCH, 0))
        done = self._ended_epochs + sum(epochs.values())
        over = self._over[min(self._over)] if len(set(self._over.values())) == 1 else ""
        best = "" if self._best is None else f", best {self._selection.metric} {self._best:.3f}{over}"
        self._progress.update(
            self._progress.task_ids[0],
            completed=done,
            description=f"{escape(self._title)}: {self._ended + len(epochs)} of {self._trials} trials begun{best}",
        )

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Show the bar before the first epoch ends."""
        self._show(trials)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Advance the bar."""
        self._show(trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Print how the trial ended: its score, and whether it is the best so far."""
        result = trial.last_result or {}
        score = result.get(self._selection.metric)
        if SUSPENDED in result:
            outcome = f"left unfinished: {result[SUSPENDED]}"
        elif FAILURE in result:
            outcome = f"failed: {result[FAILURE]}"
        elif not result.get(DONE):
            outcome = f"ended early, after epoch {result.get(EPOCH, 0)}"
        elif score is None:
            outcome = "ended without a score"
        else:
            sign = 1 if self._selection.mode == "max" else -1
            better = self._best is None or sign * score > sign * self._best
            self._best = score if better else self._best
            over = self._over.get(trial.config[TRIAL_KEY], "")
            outcome = f"{self._selection.metric} {score:.3f}{over}{' (best)' * better}"
        self._show(trials)
        self.tell(f"trial {trial.config[TRIAL_KEY]}: {outcome}")

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Stop the display."""
        if self._progress is not None:
            self._show(trials)
            self._progress.stop()
            self._progress = None

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        console = make_console() if self._progress is None else self._progress.console
        console.print(f"  {escape(self._title)} {escape(line)}", highlight=False, soft_wrap=True)
