"""A value, such as ProSelfLC's temperature, that changes with the progress of training.

Progress is the number of optimiser steps done, divided by the number planned: t/Γ in [0, 1]. (The schedule of the
learning rate is another one, in `ser.training.optimizer`.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ser.utils.checks import check_choice, check_positive
from ser.utils.errors import UserError

SCHEDULE_KINDS = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Schedule:
    """Positive value as a function of the progress t/Γ of training.

    Args:
        kind: ``constant`` (always ``start``), ``linear``, or ``cosine`` (half a period), both from ``start`` to
            ``end``.
        start: Value at progress 0, > 0.
        end: Value at progress 1, > 0. Not required by ``constant``, which ignores it.

    Raises:
        UserError: If the kind is unknown, a value is not positive, or ``end`` is missing.

    Example:
        >>> temperature = Schedule("linear", start=1.0, end=0.5)
        >>> [temperature.at(progress) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.75, 0.5]
    """

    kind: str
    start: float
    end: float | None = None

    def __post_init__(self) -> None:
        check_choice("kind of Schedule", self.kind, SCHEDULE_KINDS)
        check_positive("Schedule: start", self.start)
        if self.kind != "constant":
            if self.end is None:
                raise UserError(
                    f"Schedule: kind {self.kind!r} needs an end as well as a start. Add end, or use constant."
                )
            check_positive("Schedule: end", self.end)

    def at(self, progress: float) -> float:
        """Return the value at a progress t/Γ in [0, 1]."""
        if self.kind == "constant" or self.end is None:
            return self.start
        done = progress if self.kind == "linear" else 0.5 * (1.0 - math.cos(math.pi * progress))
        return (1.0 - done) * self.start + done * self.end

    def is_constant(self, value: float) -> bool:
        """Return whether the schedule has this value at every progress."""
        return self.start == value and (self.kind == "constant" or self.end == value)


def progress_of(step: int | None, total_steps: int) -> float:
    """Return the progress t/Γ of training, in [0, 1].

    Args:
        step: t, optimiser steps done so far.
        total_steps: Γ, the planned number of steps.

    Raises:
        ValueError: If there is no step, or if it is outside 0..Γ.
    """
    if step is None:
        raise ValueError("this loss changes during training: pass the step, the number of optimiser steps done so far")
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step} is outside the plan of 0..{total_steps} steps")
    return step / total_steps
