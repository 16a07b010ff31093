"""Values that change over training time, measured in steps of the planned total."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ser.utils.checks import check_choice, check_positive
from ser.utils.errors import UserError

SCHEDULE_KINDS = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Schedule:
    """A positive value over the progress t/Γ of training, such as an entropy schedule's temperature.

    Args:
        kind: ``constant`` (start), ``linear`` or ``cosine`` (from start to end, half a cosine period).
        start: Value at progress 0, > 0.
        end: Value at progress 1, > 0. A constant needs none and ignores one.

    Raises:
        UserError: Unknown kind, a value that is not > 0, or a missing end.
    """

    kind: str
    start: float
    end: float | None = None

    def __post_init__(self) -> None:
        check_choice("kind of Schedule", self.kind, SCHEDULE_KINDS)
        check_positive("Schedule: start", self.start)
        if self.kind != "constant":
            if self.end is None:
                raise UserError(f"Schedule: kind {self.kind!r} needs an end beside its start.")
            check_positive("Schedule: end", self.end)

    def at(self, progress: float) -> float:
        """The value at a progress t/Γ in [0, 1]."""
        if self.kind == "constant" or self.end is None:
            return self.start
        done = progress if self.kind == "linear" else 0.5 * (1.0 - math.cos(math.pi * progress))
        return (1.0 - done) * self.start + done * self.end

    def is_constant(self, value: float) -> bool:
        """Whether every progress has this value."""
        return self.start == value and (self.kind == "constant" or self.end == value)


def progress_of(step: int | None, total_steps: int) -> float:
    """t/Γ in [0, 1].

    Args:
        step: t, optimiser steps done so far.
        total_steps: Γ, the planned number.

    Raises:
        ValueError: No step, or one outside 0..Γ.
    """
    if step is None:
        raise ValueError("this loss changes over time: pass the step, the optimiser steps done so far")
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step} lies outside the plan of 0..{total_steps} steps")
    return step / total_steps
