"""The configurations that a confirmation tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ser.config import Config, complete, stored
from ser.models.initial_weights import PRETRAINED
from study.options import StudyOptions
from study.schema import DEFAULT, SEARCH_RANK
from study.setup.spaces import Space
from study.tracking.searches import Trials, best_runs


@dataclass(frozen=True)
class Candidate:
    """A configuration to confirm.

    Args:
        space: Its method.
        noise: Noise level, by its name for records.
        name: ``search-1``, ``search-2``, … or ``default``.
        source: The search's run; empty for a default that the search has not tried.
        configuration: All dotted names.
    """

    space: str
    noise: str
    name: str
    source: str
    configuration: Mapping[str, Any]


def choose(trials: Trials, spaces: Mapping[str, Space], defaults: Mapping[str, Any], top: int) -> list[Candidate]:
    """Choose the best finished configurations of each space and level, and the published default.

    A configuration that equals the default is confirmed once, as the default, whatever its rank.

    Args:
        trials: Trials of the search, with a column ``all_parameters``.
        spaces: Spaces by name.
        defaults: Dotted names that every trial of the search had.
        top: Configurations of each space and level.
    """
    found: list[Candidate] = []
    best = best_runs(trials, top)
    for (noise, space), group in best.groupby(["noise", "space"], sort=False):
        default = published_default(spaces[str(space)], str(noise), defaults)
        ranked = []
        for row in group.to_dict("records"):
            if pd.isna(row["run_id"]):
                continue
            configuration = Config.from_dotted(stored(row["all_parameters"])).to_dotted()
            if configuration == default.configuration:
                default = replace(default, source=row["run_id"])
            else:
                name = f"{SEARCH_RANK}{row['rank']}"
                ranked.append(Candidate(str(space), str(noise), name, row["run_id"], configuration))
        found += [*ranked, default]
    return found


def place_of_weights(options: StudyOptions) -> dict[str, str]:
    """Return the file that ``--pretrained`` names, by its dotted name; it is below the storage path, which may move.

    Args:
        options: Complete options of a study or a confirmation.
    """
    return {PRETRAINED: options.fixed.get(PRETRAINED, "")} if options.pretrained else {}


def with_weights(candidates: Iterable[Candidate], options: StudyOptions) -> list[Candidate]:
    """Return declared candidates with the file that ``--pretrained`` names where it is now.

    Args:
        candidates: As declared.
        options: Complete options of the confirmation.
    """
    own = place_of_weights(options)
    return [replace(one, configuration={**one.configuration, **own}) for one in candidates]


def published_defaults(
    spaces: Iterable[Space], levels: Iterable[str], defaults: Mapping[str, Any]
) -> tuple[Candidate, ...]:
    """Return the published default of each space at each noise level.

    Args:
        spaces: Spaces.
        levels: Noise levels, by their names for records.
        defaults: Dotted names that every trial has.
    """
    return tuple(published_default(space, level, defaults) for level in levels for space in spaces)


def published_default(space: Space, level: str, defaults: Mapping[str, Any]) -> Candidate:
    """Return a space's first point to evaluate, its published default.

    Args:
        space: The space.
        level: Noise level, by its name for records.
        defaults: Dotted names that every trial has.
    """
    configuration = Config.from_dotted(complete(defaults, next(iter(space.examples())))).to_dotted()
    return Candidate(space.name, level, DEFAULT, "", configuration)
