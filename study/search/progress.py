"""Live progress in the terminal: a line of the search, one of the whole study, and a line for each trial that ends."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from study.console import make_console, say
from study.schema import FAILED, FINISHED, STOPPED, Selection
from study.search.journal import Entry
from study.trial.specification import AGAIN_KEY, DONE, EPOCH, FAILURE, SUSPENDED, TRIAL_KEY

BAR_FROM = 110
"""Columns of a terminal from which the progress has a bar."""
BAR = 41
"""Characters of the bar and the space after it."""


class WholeStudy:
    """Progress of all searches of a session.

    Args:
        planned: Number of planned trials of each search.
        ended: Number of those that have ended in earlier sessions.
        epochs: Planned epochs of a trial.
        is_confirmation: Whether the trials are trainings of known configurations.
    """

    def __init__(self, planned: Sequence[int], ended: Sequence[int], epochs: int, *, is_confirmation: bool) -> None:
        self.is_confirmation = is_confirmation
        self._planned, self._ended, self._epochs = list(planned), list(ended), epochs
        self._trained = [0] * len(planned)
        self._began: float | None = None

    def line(self, place: int, ended: int, running: int, trained: int) -> str:
        """Return the progress of the study in a line, with the time left by the epochs that were trained so far.

        Args:
            place: Place of the present search, from 0.
            ended: Number of its trials that have ended.
            running: Epochs of those that have not.
            trained: Epochs that this session has trained of it.
        """
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        self._ended[place], self._trained[place] = ended, trained
        done, planned = sum(self._ended), sum(self._planned)
        epochs_left = (planned - done) * self._epochs - running
        seconds = _seconds_left(now - self._began, sum(self._trained), epochs_left)
        if self.is_confirmation:
            text = f"confirmation: {done} of {planned} trainings"
        else:
            text = f"search {place + 1} of {len(self._planned)}, {done} of {planned} trials"
        return text + (f", about {_time_text(seconds)} left" if seconds else "")


def _seconds_left(spent: float, trained: int, left: int) -> float:
    """Return the time that the remaining epochs take at the speed so far; 0 if none remain or none is trained.

    Rich's own estimate is of the last 30 seconds, in which an epoch of a large network does not end.

    Example:
        >>> _seconds_left(60.0, 2, 4)
        120.0
    """
    return spent / trained * max(left, 0) if trained else 0.0


def _clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds.

    Example:
        >>> _clock(9), _clock(100000)
        ('0:00:09', '27:46:40')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _time_text(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> _time_text(42), _time_text(720), _time_text(9000)
        ('42 s', '12 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _Numbers(ProgressColumn):
    """Epochs of a search, time elapsed and time left; the task's field ``left`` has the latter in seconds."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the numbers of a search."""
        left = task.fields["left"]
        text = f"{task.completed:.0f}/{task.total:.0f} epochs, {_clock(task.elapsed or 0)}"
        return Text(text + (f", {_clock(left)} left" if left else ""), no_wrap=True)

    @staticmethod
    def width(total: int) -> int:
        """Return the characters that the numbers of a search need at most, with the space before them.

        Args:
            total: Planned epochs of the search.
        """
        return len(f" {total}/{total} epochs, 99:59:59, 99:59:59 left")


class _Display(Progress):
    """Progress of a search with a line below it.

    Args:
        columns: As of ``rich.progress.Progress``.
    """

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the search's line, and that of the whole study."""
        yield from super().get_renderables()
        if self.below:
            yield Text(f"  {self.below}", no_wrap=True, overflow="ellipsis")


class SearchProgress(Callback):  # type: ignore[misc]
    """Callback of Ray Tune that shows one search in the terminal.

    Args:
        title: Space and noise level.
        earlier: Trials of earlier sessions.
        trials: Number of planned trials.
        epochs: Planned epochs of a trial.
        selection: Score that the search maximises or minimises.
        over: Words after the score of a trial, by its number, where UAR is over fewer than all classes; None for none.
        whole: All searches of the session; None for no line of them.
        place: Place of this search among them, from 0.
    """

    def __init__(
        self,
        title: str,
        earlier: Sequence[Entry],
        trials: int,
        epochs: int,
        selection: Selection,
        over: Mapping[int, str] | None = None,
        whole: WholeStudy | None = None,
        place: int = 0,
    ) -> None:
        self._title, self._trials, self._epochs, self._selection = title, trials, epochs, selection
        self._over = {number: f" {words}" for number, words in (over or {}).items() if words}
        self._whole, self._place = whole, place
        self._in_order = whole is None or not whole.is_confirmation
        """Return whether the best trial so far means something: those of a confirmation are folds and seeds."""
        ended = [entry for entry in earlier if entry.status in (FINISHED, STOPPED)]
        self._ended, self._ended_epochs = len(ended), sum(entry.epochs for entry in ended)
        self._done = {entry.number for entry in earlier if entry.status in (FINISHED, STOPPED, FAILED)}
        self._before = {entry.number: entry.epochs for entry in earlier if entry.number not in self._done}
        scores = [entry.value for entry in ended if entry.status == FINISHED and entry.value is not None]
        best = max if selection.mode == "max" else min
        self._best: float | None = best(scores) if scores and self._in_order else None
        self._progress: _Display | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks, and a live display cannot be pickled.
        return {**self.__dict__, "_progress": None}

    def _show(self, trials: list[Trial]) -> None:
        if self._progress is None:
            console = make_console()
            bar: list[ProgressColumn] = [BarColumn()] if console.width >= BAR_FROM else []
            self._progress = _Display(
                TextColumn("{task.description}"),
                *bar,
                _Numbers(),
                console=console,
            )
            self._progress.add_task(self._title, total=self._trials * self._epochs, left=0.0)
            self._progress.start()
        # A trial whose process has died is another one to Tune when it is tried again.
        epochs: dict[int, int] = {}
        for trial in trials:
            number = trial.config[TRIAL_KEY]
            if trial.config.get(AGAIN_KEY):
                continue  # has ended before
            epochs[number] = max(epochs.get(number, 0), (trial.last_result or {}).get(EPOCH, 0))
        running = sum(count for number, count in epochs.items() if number not in self._done)
        trained = max(sum(count - self._before.get(number, 0) for number, count in epochs.items()), 0)
        if self._whole is not None:
            self._progress.below = self._whole.line(self._place, len(self._done), running, trained)
        width = self._progress.console.width
        room = width - _Numbers.width(self._trials * self._epochs) - (BAR if width >= BAR_FROM else 0)
        (task,) = self._progress.tasks
        left = (self._trials - len(self._done)) * self._epochs - running
        self._progress.update(
            task.id,
            completed=self._ended_epochs + sum(epochs.values()),
            description=escape(self._description(self._ended + len(epochs), room)),
            left=_seconds_left(task.elapsed or 0.0, trained, left),
        )

    def _description(self, begun: int, room: int) -> str:
        """Return what the line of the search says before its numbers: the most that fits."""
        over = self._over[min(self._over)] if len(set(self._over.values())) == 1 else ""
        best = "" if self._best is None else f", best {self._selection.metric} {self._best:.3f}"
        counts = f": {begun} of {self._trials} {'trials' if self._in_order else 'trainings'} begun"
        short = f": {begun}/{self._trials} {'trials' if self._in_order else 'trainings'}"
        for text in (counts + best + over, counts + best, counts, short):
            if len(self._title) + len(text) <= room:
                return self._title + text
        return f"{self._title[: max(room - len(short) - 1, 1)]}…{short}"

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
        elif trial.config.get(AGAIN_KEY):
            outcome = "its network has been trained again; its records are unchanged"
        elif score is None:
            outcome = "ended without a score"
        else:
            sign = 1 if self._selection.mode == "max" else -1
            better = self._in_order and (self._best is None or sign * score > sign * self._best)
            self._best = score if better else self._best
            over = self._over.get(trial.config[TRIAL_KEY], "")
            outcome = f"{self._selection.metric} {score:.3f}{over}{' (best)' * better}"
        if SUSPENDED not in result and not trial.config.get(AGAIN_KEY):
            self._done.add(trial.config[TRIAL_KEY])
        self._show(trials)
        self.tell(f"{'trial' if self._in_order else 'training'} {trial.config[TRIAL_KEY]}: {outcome}")

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Stop the display."""
        if self._progress is not None:
            self._show(trials)
            self._progress.stop()
            self._progress = None

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        console = make_console() if self._progress is None else self._progress.console
        say(console, f"  {self._title} {line}")
