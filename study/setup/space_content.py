"""The content of search spaces in records: ranges, constants and points, by which a changed file is found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from ser.utils.errors import UserError
from study.setup.space_rules import describe_range, on_grid, quoted

# More different values of one key that is not searched than this are computed from searched ones.
MOST_CONSTANTS = 10
COMPUTED = "computed"

Content = Mapping[str, Any]
"""Domains (distributions of each searched key), constants (values of each other key) and points, JSON-able."""


def content_of(
    samples: Iterable[tuple[optuna.Trial, Mapping[str, Any]]], points: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of a space.

    Args:
        samples: Trials and their parameters by dotted name, which show all that a conditional space does.
        points: Its points to evaluate.
    """
    domains: dict[str, set[str]] = {}
    constants: dict[str, set[str]] = {}
    for trial, values in samples:
        for key, distribution in trial.distributions.items():
            domains.setdefault(key, set()).add(distribution_to_json(distribution))
        for key in values.keys() - trial.params.keys():
            constants.setdefault(key, set()).add(json.dumps(values[key], sort_keys=True))
    return {
        "domains": {key: [json.loads(text) for text in sorted(found)] for key, found in domains.items()},
        "constants": {
            key: [json.loads(text) for text in sorted(found)] if len(found) <= MOST_CONSTANTS else [COMPUTED]
            for key, found in constants.items()
        },
        "points": [dict(point) for point in points],
    }


def check_unchanged(
    name: str,
    path: str,
    old: Content,
    new: Content,
    began: str,
    otherwise: str,
    *,
    widen: bool | None = None,
    ranges: bool = True,
) -> None:
    """Raise if the content of a space is no longer that on record.

    Args:
        name: Name of the space.
        path: Path of its file; empty for a space that comes with the project.
        old: Content on record.
        new: Content of the file.
        began: What began with the content on record, for the message.
        otherwise: What to do other than to restore the file, for the message.
        widen: Whether the ranges may be wider than on record; None where nobody can ask for that.
        ranges: Whether the ranges are used, and not the constants and points alone.

    Raises:
        UserError: It has changed.
    """
    changes, wider = differences(old, new, ranges=ranges), is_widened(old, new)
    if not changes or (widen and wider):
        return
    restore = f"Restore {path!r}" if path else "Use the version of this project that it began with"
    advice = f"{restore}, or {otherwise}."
    if wider and widen is not None:
        advice += " Or add --widen: trials from now on then search the new ranges, which include the former ones."
    elif widen:
        advice += " --widen is for ranges that include the former ones, where nothing else has changed."
    listed = "".join(f"  {line}\n" for line in changes)
    raise UserError(f"space {name!r} has changed since {began}:\n{listed}{advice}")


def differences(old: Content, new: Content, *, ranges: bool = True) -> list[str]:
    """Return what has changed in a space, a line for each parameter or point.

    Args:
        old: Content on record.
        new: Content of the file.
        ranges: Whether to compare what is searched; constants and points always are.

    Example:
        >>> old = {"domains": {}, "constants": {"loss.name": ["elr"]}, "points": []}
        >>> differences(old, {**old, "constants": {"loss.name": ["focal"]}})
        ["loss.name: = 'elr' → = 'focal'"]
    """
    before, after = _entries(old, ranges), _entries(new, ranges)
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    return [f"{key}: {_words(before.get(key))} → {_words(after.get(key))}" for key in changed]


def is_widened(old: Content, new: Content) -> bool:
    """Return whether every old range is inside a new one, and all else is equal.

    Args:
        old: Content on record.
        new: Content of the file.
    """
    before, after = old["domains"], new["domains"]
    return (
        not differences(old, new, ranges=False)
        and before.keys() == after.keys()
        and all(
            len(before[key]) == len(after[key])
            and all(any(_includes(wide, narrow) for wide in after[key]) for narrow in before[key])
            for key in before
        )
    )


def _entries(content: Content, ranges: bool) -> dict[str, list[Any]]:
    """Return what is compared, by parameter and point."""
    found: dict[str, list[Any]] = {key: list(values) for key, values in content["constants"].items()}
    if ranges:
        for key, domains in content["domains"].items():
            found.setdefault(key, []).extend(map(_distribution, domains))
    return found | {f"point {number}": [point] for number, point in enumerate(content["points"], start=1)}


def _words(entry: list[Any] | None) -> str:
    """Return an entry in words, with texts in quotes."""
    if entry is None:
        return "not there"
    return " or ".join(
        describe_range(value, quoted)
        if isinstance(value, BaseDistribution)
        else ", ".join(f"{key} {quoted(one)}" for key, one in value.items())
        if isinstance(value, dict)
        else f"= {quoted(value)}"
        for value in entry
    )


def _distribution(domain: Mapping[str, Any]) -> BaseDistribution:
    return json_to_distribution(json.dumps(domain))


def _includes(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> bool:
    """Return whether a distribution can suggest whatever another one can."""
    new, old = _distribution(wide), _distribution(narrow)
    if isinstance(new, (FloatDistribution, IntDistribution)) and isinstance(old, type(new)):
        return (
            (new.log, new.step) == (old.log, old.step)
            and new.low <= old.low
            and old.high <= new.high
            and on_grid(old.low - new.low, new.step)
        )
    return new == old
