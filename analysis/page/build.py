"""The whole answer on one page: python analysis/report.py --experiment ravdess --output report.

Opens with the answer in three sentences and a figure; then what each analysis found, the noise, the protocol, the costs
and the reproduction sheet. The page needs no network; figures and tables lie beside it as files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from analysis.common.methods import choose_methods, reference_of
from analysis.common.records import Records, RecordsOptions, open_records
from analysis.common.section import NamedFigure, Section, write
from analysis.page.answer import opening, read_fates
from analysis.page.provenance import (
    cost_section,
    left_out,
    noise_section,
    protocol_section,
    read_provenance,
    reproduction_section,
)
from analysis.page.render import render
from analysis.sections.best_runs import section as best_runs
from analysis.sections.confusion import section as confusion
from analysis.sections.corrections import section as corrections
from analysis.sections.corrections.audio import Audio
from analysis.sections.curves import section as curves
from analysis.sections.embeddings import section as embeddings
from analysis.sections.importance import section as importance
from analysis.sections.selection import section as selection
from analysis.sections.significance import section as significance
from analysis.sections.significance.comparisons import compare_all, confirm_command, pooled, read_tested
from analysis.sections.significance.section import REFERENCE
from ser.utils.command_line import parse
from ser.utils.errors import UserError, unknown_name
from study.messages import first_line
from study.schema import KIND, REPORT, Tag
from study.tracking.searches import make_console
from study.tracking.store import find_run, identity

PAGE = "report.html"
OPENING = (("significance", "significance"), ("significance", "significance_seen"), ("best_runs", "best_runs"))
"""Section and figure that the page opens with: the first one that is there."""
SYNTHETIC = "The corpus is synthetic: this shows how the study works; nothing is concluded from it."


@dataclass(frozen=True)
class ReportOptions(RecordsOptions):
    """Writes everything that is known of an experiment as one HTML page, with its figures and tables beside it."""

    output: Path = Path("results") / "report"
    """Folder for report.html, and a folder for each section's figures and tables."""
    reference: str | None = None
    """Search space that the others are compared with; default cross_entropy where it was searched."""
    audio: Audio = "if-allowed"
    """Audio of suspicious labels: if the corpus's licence lets it be passed on; always, for yourself; never."""
    to_mlflow: bool = False
    """Put page and figures into MLflow too, as artifacts of a run named report."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(ReportOptions)
    matplotlib.use("agg")
    matplotlib.rcParams["figure.max_open_warning"] = 0  # the page needs all figures at once
    console = make_console()
    tell = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    records = open_records(options)
    reference = choose_reference(records, options.reference)
    answer = answer_of(records, reference)
    sections = gather(records, reference, options.audio)
    page = render(
        "Which loss should I train with, when my labels are noisy?",
        f"{records.experiment}: {extent(records)}",
        answer,
        opening_figure(sections),
        warnings(records),
        sections,
    )
    for sentence in answer:
        tell(sentence)
    if lacking := [section.title for section in sections if section.missing]:
        tell(f"Something is missing in: {'; '.join(lacking)}. The page says why, and how to get it.")
    paths = [write_page(page, options.output)]
    for section in sections:
        if section.tables or section.figures or section.sounds:
            paths += write([section], options.output / section.name)
    tell(f"wrote {paths[0]}, and {len(paths) - 1} files of figures and tables beside it")
    if options.to_mlflow:
        tell(f"put into MLflow as run {keep(records, paths, options.output)}")
    return 0


def choose_reference(records: Records, asked: str | None) -> str:
    """The space that others are compared with.

    Raises:
        UserError: It is in no record.
    """
    known = set(records.confirmed["space"]) | (set() if records.search is None else set(records.search.table["space"]))
    if asked is not None and asked not in known:
        raise unknown_name("--reference", asked, known)
    try:
        return reference_of(choose_methods(records).methods, asked)
    except UserError:
        return asked or REFERENCE


def answer_of(records: Records, reference: str) -> tuple[str, ...]:
    """The three sentences that the page opens with.

    Raises:
        UserError: A table of utterances cannot be read, or does not fit the others.
    """
    tested = read_tested(records)
    compared = compare_all(tested, reference, len(records.classes))
    rows = []
    for (noise, space), trials in tested.trials.groupby(["noise", "space"], sort=False):
        unseen = trials[~trials["seen"].astype(bool)]
        pool = pooled(tested, unseen if len(unseen) else trials, len(records.classes))
        if pool is not None:
            rows.append({"noise": noise, "space": space, "uar": float(pool.uar_by_seed.mean())})
    scores = pd.DataFrame(rows, columns=["noise", "space", "uar"])
    try:
        fates = read_fates(records, choose_methods(records))
    except UserError:  # no trial has finished
        fates = pd.DataFrame(columns=["noise", "rate", "space", "trials", "changed", "precision", "memorised"])
    return opening(records, compared, scores, fates, reference, confirm_command(records))


def gather(records: Records, reference: str, audio: Audio) -> list[Section]:
    """Every section, in the order of the page.

    Args:
        records: Of the experiment.
        reference: The space that others are compared with.
        audio: Whether suspicious labels have audio.
    """
    found = read_provenance(records)
    makers: Sequence[tuple[str, str, Callable[[], Section]]] = (
        ("best_runs", "Best runs", lambda: best_runs.section(records)),
        ("significance", "Differences", lambda: significance.section(records, reference)),
        ("curves", "Curves", lambda: curves.section(records)),
        ("importance", "What mattered in the search", lambda: importance.section(records)),
        ("selection", "Choosing by noisy labels", lambda: selection.section(records)),
        ("confusion", "Confusions", lambda: confusion.section(records, reference)),
        ("embeddings", "Embeddings", lambda: embeddings.section(records, reference=reference)),
        ("corrections", "Label corrections", lambda: corrections.section(records, audio=audio)),
        ("noise", "The noise in the labels", lambda: noise_section(found)),
        ("protocol", "The protocol", lambda: protocol_section(records, found)),
        ("costs", "What it has cost", lambda: cost_section(records, found)),
        ("reproduction", "Reproduction sheet", lambda: reproduction_section(records, found)),
    )
    return [_made(name, title, make) for name, title, make in makers]


def _made(name: str, title: str, make: Callable[[], Section]) -> Section:
    """A section, or why there is none: one analysis that cannot be made must not cost the others."""
    try:
        return make()
    except UserError as error:
        return Section(name, title, missing=(str(error),))


def opening_figure(sections: Sequence[Section]) -> NamedFigure | None:
    """The figure that the page opens with, None without any."""
    figures = {(section.name, figure.name): figure for section in sections for figure in section.figures}
    return next((figures[key] for key in OPENING if key in figures), None)


def extent(records: Records) -> str:
    """What the records are of, in a line."""
    parts = []
    if records.search is not None:
        table = records.search.table
        parts.append(
            f"{_counted(len(table), 'trial')} of a search over {_counted(table['space'].nunique(), 'method')} and "
            f"{_counted(table['noise'].nunique(), 'noise level')}"
        )
    if not records.confirmed.empty:
        table = records.confirmed
        parts.append(
            f"{_counted(len(table), 'trial')} that confirm it on {_counted(table['seed'].nunique(), 'seed')} and "
            f"{_counted(table['fold'].nunique(), 'test fold')}"
        )
    return "; ".join(parts)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def warnings(records: Records) -> list[str]:
    """What a reader must know before anything else."""
    run = records.confirmed["run_id"] if records.search is None else records.search.table["run_id"]
    corpus = records.client.get_run(str(run.iloc[0])).data.tags.get(Tag.CORPUS)
    return [*([SYNTHETIC] if corpus == "synthetic" else []), *left_out(records)]


def write_page(page: str, folder: Path) -> Path:
    """Writes the page.

    Raises:
        UserError: The folder is not writable.
    """
    path = folder / PAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return path


def keep(records: Records, paths: Sequence[Path], folder: Path) -> str:
    """Puts page and figures into MLflow, into the experiment's one run of that kind.

    Args:
        records: Of the experiment.
        paths: Files below the folder.
        folder: Of the report.

    Returns:
        The run's id.

    Raises:
        UserError: MLflow does not take them.
    """
    client: MlflowClient = records.client
    try:
        run = find_run(client, records.identifier, {KIND: REPORT})
        if run is None:
            run = client.create_run(records.identifier, tags={KIND: REPORT, **identity("report")})
        run_id = str(run.info.run_id)
        for path in paths:
            if path.name == PAGE or path.suffix == ".png":
                below = path.parent.relative_to(folder)
                client.log_artifact(run_id, str(path), None if below == Path() else below.as_posix())
        client.set_terminated(run_id, "FINISHED")
    except (MlflowException, OSError) as error:
        raise UserError(f"the report could not be put into MLflow: {first_line(error)}") from None
    return run_id
