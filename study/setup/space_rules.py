"""Rules of search spaces: which ranges, constants and points a space may have, and how messages describe them."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search.sample import Domain

import search_spaces
from ser.utils.errors import UserError, first_line, shown

DOMAINS = "tune.choice, uniform, loguniform, quniform, randint, qrandint or lograndint"


def convert(space: Mapping[Any, Any]) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
    """Separate what a dict of domains and constants searches from what it does not.

    Args:
        space: ``SPACE`` of a space that is not conditional.

    Returns:
        Optuna's distributions and the constants, by dotted name.

    Raises:
        UserError: A key is no text, or a value neither a domain that can be searched nor a constant.
    """
    constants = {key: value for key, value in space.items() if not isinstance(value, Domain)}
    check_constants("SPACE has", {**dict.fromkeys(space), **constants})
    searched = {key: _distribution(key, value) for key, value in space.items() if isinstance(value, Domain)}
    return searched, constants


def _distribution(key: str, domain: Domain) -> BaseDistribution:
    try:
        found = search_spaces.distribution(domain)
    except Exception as error:  # Ray Tune and Optuna refuse domains with errors of many kinds
        raise UserError(
            f"{key} cannot be searched: {first_line(error).rstrip('.')}. Use {DOMAINS}, with the low bound first."
        ) from error
    check_distribution(key, found)
    return found


def check_constants(where: str, values: Mapping[Any, Any]) -> None:
    """Raise unless all keys are texts, and all values can be stored.

    Args:
        where: Beginning of the message.
        values: Constants by dotted name.

    Raises:
        UserError: Another key or value.
    """
    for key, value in values.items():
        if not isinstance(key, str):
            raise UserError(f"{where} the key {shown(key)}; dotted names are expected, such as 'optimizer.lr'.")
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            valid = False
        else:
            valid = not (isinstance(value, dict) and "grid_search" in value)
        if not valid:
            raise UserError(
                f"{where} {key} = {shown(value)}, {kind(value)}. Expected is a number, a text, a boolean or None; in a "
                f"dict SPACE also {DOMAINS}."
            )


def check_distribution(key: str, distribution: BaseDistribution) -> None:
    """Raise if a distribution cannot be sampled or stored.

    Args:
        key: Dotted name of the parameter.
        distribution: Its distribution.

    Raises:
        UserError: A bound is not finite, or a choice is no number, text, boolean or None.
    """
    if isinstance(distribution, CategoricalDistribution):
        for choice in distribution.choices:
            if choice is not None and not isinstance(choice, (bool, int, float, str)):
                raise UserError(
                    f"{key} has the choice {shown(choice)}, {kind(choice)}. Expected are numbers, texts, booleans and "
                    "None."
                )
            if isinstance(choice, float) and math.isnan(choice):
                raise UserError(f"{key} has the choice nan. Expected are numbers, texts, booleans and None.")
        return
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    if not (math.isfinite(distribution.low) and math.isfinite(distribution.high)):
        raise UserError(f"{key} has the range {describe_range(distribution)}. Expected are finite bounds.")


def check_point(
    number: int, point: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], values: Mapping[str, Any]
) -> None:
    """Raise unless a point names every searched parameter, each with a value in its range, and nothing else.

    Args:
        number: Number of the point, from 1.
        point: The point.
        distributions: Distributions of the parameters that are searched there.
        values: Constants by dotted name; a point may repeat them.

    Raises:
        UserError: It does not.

    Example:
        >>> check_point(1, {"loss.gamma": 9.0}, {"loss.gamma": FloatDistribution(0.0, 5.0)}, {})
        Traceback (most recent call last):
            ...
        ser.utils.errors.UserError: point 1 in POINTS has loss.gamma = 9.0. Expected is 0 to 5.
    """
    where = f"point {number} in POINTS"
    if lacking := [key for key in distributions if key not in point]:
        raise UserError(f"{where} lacks {', '.join(lacking)}. Give a value for every searched parameter.")
    for key, value in point.items():
        distribution = distributions.get(key)
        if distribution is not None:
            if not _contains(distribution, value):
                raise UserError(
                    f"{where} has {key} = {shown(value)}. Expected is {describe_range(distribution, quoted)}."
                )
        elif key not in values or values[key] != value:
            raise UserError(
                f"{where} has {key} = {shown(value)}, which is not searched there. Leave it out; searched are "
                f"{', '.join(sorted(distributions)) or 'no parameters'}."
            )


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a distribution can suggest a value."""
    if isinstance(distribution, CategoricalDistribution):
        return any(type(choice) is type(value) and choice == value for choice in distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    numbers = int if isinstance(distribution, IntDistribution) else (int, float)
    if isinstance(value, bool) or not isinstance(value, numbers) or not distribution.low <= value <= distribution.high:
        return False
    return distribution.log or on_grid(value - distribution.low, distribution.step)


def on_grid(distance: float, step: float | None) -> bool:
    """Return whether a distance is a whole number of steps; any is where there are no steps.

    Example:
        >>> on_grid(0.30000000000000004, 0.1), on_grid(0.25, 0.1), on_grid(0.25, None)
        (True, False, True)
    """
    return step is None or abs(distance / step - round(distance / step)) < 1e-6


def exact(value: Any) -> str:
    """Return a value in words; a number has as many digits as it needs.

    Example:
        >>> exact(0.0003), exact(10.0), exact(1 / 3), exact(True)
        ('0.0003', '10', '0.3333333333333333', 'True')
    """
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def quoted(value: Any) -> str:
    """Return a value in words that tell a text from a number.

    Example:
        >>> quoted("8"), quoted(8.0)
        ("'8'", '8')
    """
    return repr(value) if isinstance(value, str) else exact(value)


def describe_range(distribution: BaseDistribution, word: Callable[[Any], str] = exact) -> str:
    """Return the values of a distribution in words.

    Args:
        distribution: A distribution of Optuna.
        word: Function that describes a choice.

    Example:
        >>> describe_range(FloatDistribution(0.4, 1.0, step=0.1))
        '0.4 to 1 in steps of 0.1'
    """
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(word, distribution.choices))}"
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    step = "" if distribution.step in (None, 1) else f" in steps of {exact(distribution.step)}"
    return f"{exact(distribution.low)} to {exact(distribution.high)}{step}{', logarithmic' if distribution.log else ''}"


def kind(value: object) -> str:
    """Return the type of a value, with its article.

    Example:
        >>> kind([]), kind(1)
        ('a list', 'an int')
    """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def raised(error: BaseException, path: str) -> str:
    """Return what the file of a space has raised, and in which of its lines.

    Args:
        error: The exception.
        path: Path of the file; empty for a space that comes with the project.
    """
    text = first_line(error).rstrip(".") if str(error) else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{type(error).__name__}{f': {text}' if text else ''}{f' (line {lines[-1]})' if lines else ''}"
