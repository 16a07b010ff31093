"""MLflow runs, noise manifests and study options behind the records of an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from analysis.common.records import Records
from study.schema import CONFIRM, KIND, MANIFEST, OLD_SEARCH_RECORD, PARENT, SEARCH, SEARCH_RECORD


@dataclass(frozen=True)
class Provenance:
    """Runs behind the records.

    Args:
        search: Runs of the search's trials.
        confirm: Runs of the confirmation's trials.
        parents: Run id → run, of the parents of these.
        manifests: Parent run → noise manifest, of the parents that have one.
        studies: Parent run → the study's options and space, of the parents that have them.
    """

    search: tuple[Run, ...]
    confirm: tuple[Run, ...]
    parents: Mapping[str, Run]
    manifests: Mapping[str, Mapping[str, Any]]
    studies: Mapping[str, Mapping[str, Any]]

    @property
    def trials(self) -> tuple[Run, ...]:
        """Return the runs of both stages."""
        return (*self.search, *self.confirm)

    @property
    def stages(self) -> tuple[tuple[str, tuple[Run, ...]], ...]:
        """Return each stage with its runs."""
        return (SEARCH, self.search), (CONFIRM, self.confirm)

    def values(self, tag: str, runs: Iterable[Run] | None = None) -> list[str]:
        """Return the different values of a tag, sorted as numbers if they are numbers.

        Args:
            tag: Name of the tag.
            runs: Runs of one stage; None is both.
        """
        found = {run.data.tags.get(tag, "") for run in (self.trials if runs is None else runs)} - {""}
        return sorted(found, key=lambda value: (not value.isdigit(), int(value) if value.isdigit() else 0, value))


def read_provenance(records: Records) -> Provenance:
    """Read the manifests and options of the runs behind the records; the store is asked once for each."""
    searched = set() if records.search is None else set(records.search.table["run_id"])
    confirmed = set(records.confirmed["run_id"])
    search = tuple(run for run in records.runs if run.info.run_id in searched)
    confirm = tuple(run for run in records.runs if run.info.run_id in confirmed)
    wanted = {run.data.tags.get(MLFLOW_PARENT_RUN_ID) for run in (*search, *confirm)}
    known = {run.info.run_id: run for run in records.runs if run.data.tags.get(KIND) == PARENT}
    parents = {run_id: run for run_id, run in known.items() if run_id in wanted}
    manifests, studies = (
        {run_id: content for run_id in parents if (content := _first(records, run_id, names)) is not None}
        for names in ((MANIFEST,), (SEARCH_RECORD, OLD_SEARCH_RECORD))
    )
    return Provenance(search, confirm, parents, manifests, studies)


def _first(records: Records, run_id: str, names: Iterable[str]) -> Any:
    """Return the first of some JSON artifacts that a run has, None if it has none."""
    return next((found for name in names if (found := records.document(run_id, name)) is not None), None)
