"""The configurations that a confirmation trains, and the plan in its folder that a resumed one follows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ser.config import Config
from ser.utils.durable_files import replace_text
from ser.utils.errors import UserError
from study.schema import DEFAULT, SEARCH_RANK
from study.setup.spaces import Space
from study.tracking.searches import Trials, best_runs

CANDIDATES = "candidates.json"


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


@dataclass(frozen=True)
class ConfirmationPlan:
    """Plan of a confirmation.

    Args:
        experiment: MLflow experiment of the search.
        study: The one study that was confirmed, None for all that are comparable.
        candidates: Configurations.
        seeds: Of training and noise draw.
        folds: Folds that are tested.
    """

    experiment: str
    study: str | None
    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]

    def write(self, folder: Path) -> None:
        """Write the plan to the confirmation's folder, so that a resumed one does not choose again."""
        replace_text(folder / CANDIDATES, json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def read(folder: Path) -> ConfirmationPlan:
        """Read the plan of a confirmation that is resumed.

        Args:
            folder: The confirmation's folder.

        Raises:
            UserError: No confirmation is there.
        """
        try:
            saved = json.loads((folder / CANDIDATES).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"there is no confirmation {folder.name!r} in {str(folder.parent)!r} to resume. Name the "
                "--storage-path of the confirmation if it is elsewhere."
            ) from error
        return ConfirmationPlan(
            saved["experiment"],
            saved["study"],
            tuple(Candidate(**one) for one in saved["candidates"]),
            tuple(saved["seeds"]),
            tuple(saved["folds"]),
        )


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
        published = Config.from_dotted({**defaults, **next(iter(spaces[str(space)].examples()))}).to_dotted()
        default = Candidate(str(space), str(noise), DEFAULT, "", published)
        ranked = []
        for row in group.to_dict("records"):
            if pd.isna(row["run_id"]):
                continue
            configuration = Config.from_dotted(row["all_parameters"]).to_dotted()
            if configuration == published:
                default = replace(default, source=row["run_id"])
            else:
                name = f"{SEARCH_RANK}{row['rank']}"
                ranked.append(Candidate(str(space), str(noise), name, row["run_id"], configuration))
        found += [*ranked, default]
    return found
