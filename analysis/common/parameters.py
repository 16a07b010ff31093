"""The searched parameters as numbers: what range each was drawn from, and where a trial's value lies in it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from ser.config import Config
from ser.utils.errors import UserError
from study.setup.spaces import load_space, space_names

# Widening is tried by these shares of the range, until the configuration takes one.
WIDENING = (0.5, 0.25, 0.1)
NEAR_BOUND = 0.05
# An observed range over so many orders of magnitude was searched on a logarithmic scale, one supposes.
LOG_RATIO = 100.0


@dataclass(frozen=True)
class Axis:
    """A searched parameter.

    Args:
        name: Dotted name.
        low: Smallest value; 0 of a choice.
        high: Largest value; number of the last choice.
        log: Whether it is searched on a logarithmic scale.
        choices: What can be chosen, as it is recorded; empty for a number.
        declared: Whether the range is the space's own, not merely that of the trials.
    """

    name: str
    low: float
    high: float
    log: bool = False
    choices: tuple[str, ...] = ()
    declared: bool = True

    @property
    def short(self) -> str:
        """The name less its section."""
        return self.name.partition(".")[2]

    def numbers(self, values: Sequence[str]) -> NDArray[np.float64]:
        """Recorded values as numbers; a choice is its number.

        Args:
            values: (n,) as MLflow has them.

        Returns:
            (n,).
        """
        if self.choices:
            return np.array([self.choices.index(value) for value in values], dtype=np.float64)
        return np.array([float(value) for value in values])

    def positions(self, values: Sequence[str]) -> NDArray[np.float64]:
        """Where values lie between ``low`` (0) and ``high`` (1), on the searched scale.

        Args:
            values: (n,) as MLflow has them.

        Returns:
            (n,) in [0, 1].
        """
        numbers = self.numbers(values)
        if self.low == self.high:
            return np.zeros(len(numbers))
        if self.log:
            return np.asarray(np.log(numbers / self.low) / math.log(self.high / self.low)).clip(0, 1)
        return np.asarray((numbers - self.low) / (self.high - self.low)).clip(0, 1)

    def value_at(self, position: float) -> float:
        """The number at a position; below 0 and above 1 it lies outside the range."""
        if self.log:
            return float(self.low * (self.high / self.low) ** position)
        return self.low + position * (self.high - self.low)


def axes_of(space: str, parameters: Sequence[Mapping[str, str]]) -> list[Axis]:
    """The parameters that all trials have and that differ between them.

    Args:
        space: Name of the search space. One that comes with the project knows its ranges; that of a file of the
            user's, or one which the trials do not fit, is taken from the trials.
        parameters: Of each trial, searched names → values as MLflow has them; at least one trial.

    Returns:
        Sorted by name.
    """
    common = set.intersection(*(set(trial) for trial in parameters))
    _, declared = _ranges(space)
    axes = []
    for name in sorted(common):
        values = [trial[name] for trial in parameters]
        if len(set(values)) > 1:
            axes.append(_declared(name, declared.get(name), values) or _observed(name, values))
    return axes


def positions(axes: Sequence[Axis], parameters: Sequence[Mapping[str, str]]) -> NDArray[np.float64]:
    """Where trials lie in the unit cube.

    Args:
        axes: d of them.
        parameters: n trials.

    Returns:
        (n, d) in [0, 1].
    """
    columns = [axis.positions([trial[axis.name] for trial in parameters]) for axis in axes]
    return np.column_stack(columns) if columns else np.zeros((len(parameters), 0))


def leaning(space: str, axes: Sequence[Axis], parameters: Mapping[str, str]) -> pd.DataFrame:
    """Values of a configuration that lie within 5 % of the range of a bound, on the searched scale.

    Args:
        space: Name of the search space.
        axes: Of ``axes_of``; only those whose range the space declares, and numbers alone, are looked at.
        parameters: The configuration, as MLflow has it.

    Returns:
        ``parameter``, ``value``, ``bound`` (``lower`` or ``upper``), ``low``, ``high`` (the range searched),
        ``wider_low``, ``wider_high`` (the range to search next; as before where the loss, the model or the optimiser
        takes no value beyond).
    """
    rows = []
    for axis in axes:
        if axis.choices or not axis.declared or not _is_read(axis.name, parameters):
            continue
        value = parameters[axis.name]
        position = float(axis.positions([value])[0])
        if NEAR_BOUND < position < 1 - NEAR_BOUND:
            continue
        upper = position > 0.5
        wider = _widened(space, axis, upper, parameters)
        rows.append(
            {
                "parameter": axis.name, "value": float(value), "bound": "upper" if upper else "lower",
                "low": axis.low, "high": axis.high,
                "wider_low": axis.low if upper else wider, "wider_high": wider if upper else axis.high,
            }
        )  # fmt: skip
    columns = ["parameter", "value", "bound", "low", "high", "wider_low", "wider_high"]
    return pd.DataFrame(rows, columns=columns)


@contextmanager
def silent() -> Iterator[None]:
    """Without Optuna's word on each study and on what is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


@cache
def _ranges(space: str) -> tuple[Mapping[str, Any], Mapping[str, BaseDistribution]]:
    """A space's constants and what its keys are drawn from; empty if none of that name comes with the project."""
    if space not in space_names():
        return {}, {}
    found = load_space(space, {})
    with silent():
        return found.constants, found.distributions()


def _is_read(name: str, parameters: Mapping[str, str]) -> bool:
    """Whether the configuration makes use of a parameter: a constant temperature has no end."""
    return name != "loss.temperature.end" or parameters.get("loss.temperature.kind") != "constant"


def _widened(space: str, axis: Axis, upper: bool, parameters: Mapping[str, str]) -> float:
    """The bound moved outwards as far as a configuration takes it, to two digits."""
    constants, _ = _ranges(space)
    for share in WIDENING:
        bound = float(f"{axis.value_at(1 + share if upper else -share):.2g}")
        if (bound > axis.high) if upper else (bound < axis.low):
            try:
                Config.from_dotted({**constants, **parameters, axis.name: bound})
            except UserError:
                continue
            return bound
    return axis.high if upper else axis.low


def _declared(name: str, distribution: Any, values: Sequence[str]) -> Axis | None:
    """An axis with the space's own range, None if there is none or a value lies outside."""
    if distribution is None:
        return None
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        texts = tuple(map(str, choices))
        return Axis(name, 0.0, len(texts) - 1.0, choices=texts) if set(values) <= set(texts) else None
    axis = Axis(name, float(distribution.low), float(distribution.high), bool(distribution.log))
    numbers = _numbers(values)
    slack = 1e-9 * (axis.high - axis.low)
    inside = numbers is not None and numbers.min() >= axis.low - slack and numbers.max() <= axis.high + slack
    return axis if inside else None


def _observed(name: str, values: Sequence[str]) -> Axis:
    """An axis with the range of the trials."""
    numbers = _numbers(values)
    if numbers is None or numbers.min() == numbers.max():
        choices = tuple(sorted(set(values)))
        return Axis(name, 0.0, len(choices) - 1.0, choices=choices, declared=False)
    low, high = float(numbers.min()), float(numbers.max())
    return Axis(name, low, high, log=low > 0 and high / low >= LOG_RATIO, declared=False)


def _numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
