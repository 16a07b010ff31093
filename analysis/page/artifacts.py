"""Files of the report: the page, the files of each section, and their copy in MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from analysis.common.records import Records
from analysis.common.section import Section, write
from analysis.page.opening import Opening
from ser.utils.errors import UserError, first_line
from study.schema import KIND, REPORT, REPORT_PAGE, Tag
from study.tracking.best_table import markdown_table
from study.tracking.store import find_run, identity, repeat_if_deleted

PAGE = REPORT_PAGE.name
ADVICE = {
    "level": "noise",
    "rate": "labels wrong",
    "method": "train with",
    "score": "score",
    "chance": "chance",
    "why": "why",
    "configuration": "configuration",
}
"""Field of an ``Advice`` → its heading."""


def advice_table(opening: Opening) -> pd.DataFrame:
    """Return what to train with at each noise level, as text, without columns that are empty.

    Args:
        opening: The opening of the report.
    """
    rows = [[getattr(one, name) for name in ADVICE] for one in opening.advice]
    table = pd.DataFrame(rows, columns=list(ADVICE.values()), dtype=str)
    return table.loc[:, (table != "").any()]


def report_description(opening: Opening) -> str:
    """Return the description of the report's run in MLflow, in Markdown.

    Args:
        opening: The opening of the report.
    """
    advice = [markdown_table(advice_table(opening))] if opening.advice else []
    about = f"The whole report is {PAGE}, under *Artifacts*, with the figures of its sections."
    return "\n\n".join([*advice, opening.primary, about])


def write_report(page: str, sections: Iterable[Section], folder: Path) -> list[Path]:
    """Write the page and the files of its sections.

    Args:
        page: HTML.
        sections: Sections of the page; each one with content has a folder of its own.
        folder: Folder of the page; created if necessary.

    Returns:
        The paths of the files, the page first.

    Raises:
        UserError: If the folder is not writable.
    """
    path = folder / PAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    files = [file for section in sections if not section.is_empty for file in write(section, folder / section.name)]
    return [path, *files]


def log_report(records: Records, paths: Sequence[Path], folder: Path, description: str) -> str:
    """Copy the page, its figures (PNG) and its configurations into MLflow, as a run of kind ``report`` for each corpus.

    Args:
        records: Records of the experiment.
        paths: Files of the report.
        folder: Folder of the report.
        description: What the run's page in MLflow starts with, in Markdown.

    Returns:
        The run's id.

    Raises:
        UserError: If MLflow refuses a file.
    """
    try:
        return repeat_if_deleted(partial(_copy_report, records, paths, folder, description))
    except (MlflowException, OSError) as error:
        raise UserError(f"the report could not be copied into MLflow: {first_line(error)}") from None


def _copy_report(records: Records, paths: Sequence[Path], folder: Path, description: str) -> str:
    client = records.client
    shown = (*records.matched.search, *records.matched.confirmed)
    key = {KIND: REPORT, Tag.CORPUS: records.data, Tag.CORPUS_DIGEST: shown[0].data.tags.get(Tag.CORPUS_DIGEST, "")}
    run = find_run(client, records.identifier, key)
    if run is None:
        name = f"report on {records.data} · {key[Tag.CORPUS_DIGEST][:6]}"
        run = client.create_run(records.identifier, tags={**key, **identity(name)})
    run_id = str(run.info.run_id)
    client.set_tag(run_id, MLFLOW_RUN_NOTE, description)
    for path in paths:
        if path.name == PAGE or path.suffix in {".png", ".yaml"}:
            below = path.parent.relative_to(folder)
            client.log_artifact(run_id, str(path), None if below == Path() else below.as_posix())
    client.set_terminated(run_id, "FINISHED")
    return run_id
