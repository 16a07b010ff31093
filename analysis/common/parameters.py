"""Searched parameters as numbers: the range of each one, and the position of a trial's value in it."""

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
from study.schema import space_and_labels
from study.setup.spaces import load_space, space_names

# Shares of the range by which it is widened; the first one that gives a valid configuration is taken.
WIDENING = (0.5, 0.25, 0.1)
NEAR_BOUND = 0.05
# A range of unknown scale is taken as logarithmic if it spans these orders of magnitude.
LOG_RATIO = 100.0


@dataclass(frozen=True)
class Parameter:
    """A searched parameter.

    Args:
        name: Dotted name.
        low: Smallest value; 0 for a choice.
        high: Largest value; the number of the last choice.
        log: Whether it is searched on a logarithmic scale.
        choices: Values of a choice, as recorded; empty for a number.
        declared: Whether the range is the space's own; otherwise it is the range of the trials.
    """

    name: str
    low: float
    high: float
    log: bool = False
    choices: tuple[str, ...] = ()
    declared: bool = True

    @property
    def words(self) -> str:
        """Return the name without its section, and what papers call it."""
        return parameter_in_words(self.name)

    def numbers(self, values: Sequence[str]) -> NDArray[np.float64]:
        """Return recorded values as numbers; a choice becomes its number.

        Args:
            values: (n,) as MLflow has them.

        Returns:
            (n,).
        """
        if self.choices:
            return np.array([self.choices.index(value) for value in values], dtype=np.float64)
        return np.array([float(value) for value in values])

    def positions(self, values: Sequence[str]) -> NDArray[np.float64]:
        """Return positions of values between ``low`` (0) and ``high`` (1), on the searched scale.

        Args:
            values: (n,) as MLflow has them.

        Returns:
            (n,) in [0, 1].

        Example:
            >>> rate = Parameter("optimizer.lr", 1e-4, 1e-2, log=True)
            >>> rate.positions(["0.0001", "0.001", "0.01"]).round(6).tolist()
            [0.0, 0.5, 1.0]
        """
        numbers = self.numbers(values)
        if self.low == self.high:
            return np.zeros(len(numbers))
        if self.log:
            return np.asarray(np.log(numbers / self.low) / math.log(self.high / self.low)).clip(0, 1)
        return np.asarray((numbers - self.low) / (self.high - self.low)).clip(0, 1)

    def value_at(self, position: float) -> float:
        """Return the number at a position; below 0 and above 1 it is outside the range."""
        if self.log:
            return float(self.low * (self.high / self.low) ** position)
        return self.low + position * (self.high - self.low)


def short_name(name: str) -> str:
    """Return a dotted name without its section.

    Example:
        >>> short_name("loss.temperature.end")
        'temperature.end'
    """
    return name.partition(".")[2]


SYMBOLS = {"loss.exp_base": "steepness B", "loss.transit_time_ratio": "transit time τ"}
"""Parameter → what papers call it."""


def parameter_in_words(name: str) -> str:
    """Return a dotted name without its section, and what papers call it.

    Example:
        >>> parameter_in_words("loss.exp_base"), parameter_in_words("optimizer.lr")
        ('exp_base (steepness B)', 'lr')
    """
    return f"{short_name(name)} ({SYMBOLS[name]})" if name in SYMBOLS else short_name(name)


def parameters_of(space: str, configurations: Sequence[Mapping[str, str]]) -> list[Parameter]:
    """Return the parameters that all trials have and that differ between them.

    Args:
        space: Name of the search space. A space of the project has declared ranges. For a space of the user, and where
            a trial is outside the declared range, the range of the trials is taken.
        configurations: Searched parameters of each trial, dotted name → value as MLflow has it; at least one trial.

    Returns:
        Parameters sorted by name.
    """
    common = set.intersection(*(set(configuration) for configuration in configurations))
    _, declared = _ranges(space)
    parameters = []
    for name in sorted(common):
        values = [configuration[name] for configuration in configurations]
        if len(set(values)) > 1:
            parameters.append(_declared(name, declared.get(name), values) or _observed(name, values))
    return parameters


def positions(parameters: Sequence[Parameter], configurations: Sequence[Mapping[str, str]]) -> NDArray[np.float64]:
    """Return positions of trials in the unit cube.

    Args:
        parameters: d parameters.
        configurations: n trials.

    Returns:
        (n, d) in [0, 1].
    """
    columns = [
        parameter.positions([configuration[parameter.name] for configuration in configurations])
        for parameter in parameters
    ]
    return np.column_stack(columns) if columns else np.zeros((len(configurations), 0))


def values_near_bounds(space: str, parameters: Sequence[Parameter], configuration: Mapping[str, str]) -> pd.DataFrame:
    """Return values of a configuration that are within 5 % of the range from a bound, on the searched scale.

    Args:
        space: Name of the search space.
        parameters: From ``parameters_of``; choices, and numbers without a declared range, are skipped.
        configuration: The configuration, as MLflow has it.

    Returns:
        ``parameter``, ``value``, ``bound`` (``lower`` or ``upper``), ``low``, ``high`` (the searched range),
        ``wider_low``, ``wider_high`` (the range to search next; the searched one if the loss, the model or the
        optimizer accepts no value beyond it).
    """
    rows = []
    for parameter in parameters:
        if parameter.choices or not parameter.declared or not _is_used(parameter.name, configuration):
            continue
        value = configuration[parameter.name]
        position = float(parameter.positions([value])[0])
        if NEAR_BOUND < position < 1 - NEAR_BOUND:
            continue
        upper = position > 0.5
        wider = _widened(space, parameter, upper, configuration)
        rows.append(
            {
                "parameter": parameter.name, "value": float(value), "bound": "upper" if upper else "lower",
                "low": parameter.low, "high": parameter.high,
                "wider_low": parameter.low if upper else wider, "wider_high": wider if upper else parameter.high,
            }
        )  # fmt: skip
    columns = ["parameter", "value", "bound", "low", "high", "wider_low", "wider_high"]
    return pd.DataFrame(rows, columns=columns)


@contextmanager
def silent_optuna() -> Iterator[None]:
    """Suppress Optuna's messages about each study and its warnings about experimental functions."""
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
    """Return a space's constants and distributions; both are empty if the project has no space of this name."""
    name, _ = space_and_labels(space)
    if name not in space_names():
        return {}, {}
    found = load_space(name, {})
    with silent_optuna():
        return found.constants, found.distributions()


def _is_used(name: str, configuration: Mapping[str, str]) -> bool:
    """Return whether the configuration uses a parameter: a constant temperature has no end."""
    return name != "loss.temperature.end" or configuration.get("loss.temperature.kind") != "constant"


def _widened(space: str, parameter: Parameter, upper: bool, configuration: Mapping[str, str]) -> float:
    """Return the bound moved outwards as far as the configuration accepts it, rounded to two digits."""
    constants, _ = _ranges(space)
    for share in WIDENING:
        bound = float(f"{parameter.value_at(1 + share if upper else -share):.2g}")
        if (bound > parameter.high) if upper else (bound < parameter.low):
            try:
                Config.from_dotted({**constants, **configuration, parameter.name: bound})
            except UserError:
                continue
            return bound
    return parameter.high if upper else parameter.low


def _declared(name: str, distribution: Any, values: Sequence[str]) -> Parameter | None:
    """Return a parameter with the space's range; None if there is no range or a value is outside of it."""
    if distribution is None:
        return None
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        texts = tuple(map(str, choices))
        return Parameter(name, 0.0, len(texts) - 1.0, choices=texts) if set(values) <= set(texts) else None
    parameter = Parameter(name, float(distribution.low), float(distribution.high), bool(distribution.log))
    numbers = _finite_numbers(values)
    slack = 1e-9 * (parameter.high - parameter.low)
    inside = numbers is not None and numbers.min() >= parameter.low - slack and numbers.max() <= parameter.high + slack
    return parameter if inside else None


def _observed(name: str, values: Sequence[str]) -> Parameter:
    """Return a parameter with the range of the trials."""
    numbers = _finite_numbers(values)
    if numbers is None or numbers.min() == numbers.max():
        choices = tuple(sorted(set(values)))
        return Parameter(name, 0.0, len(choices) - 1.0, choices=choices, declared=False)
    low, high = float(numbers.min()), float(numbers.max())
    return Parameter(name, low, high, log=low > 0 and high / low >= LOG_RATIO, declared=False)


def _finite_numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
