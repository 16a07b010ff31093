"""Report of an experiment as one HTML page: the answer, every section, and their files.

The page loads nothing from the network; figures and tables are also written as files next to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

from analysis.common.families import read_families
from analysis.common.methods import check_reference
from analysis.common.records import Records, RecordsOptions, open_records
from analysis.common.registry import SECTIONS, load_section, options_from
from analysis.common.section import NamedFigure, Section, about
from analysis.common.text import counted
from analysis.page.answer import answer
from analysis.page.artifacts import log_report, write_report
from analysis.page.html.render import render
from analysis.page.opening import Opening, make_opening
from analysis.page.recommendation import recommend, write_configurations
from analysis.sections.corrections.audio import Audio
from ser.utils.command_line import parse
from ser.utils.errors import UserError
from study.console import make_console, say
from study.schema import Tag

SCRIPT = "analysis/report.py"
TITLE = "Which loss should I train with when my labels are noisy?"
FIRST_FIGURES = (("dose_response", "dose_response"), ("significance", "significance"), ("best_runs", "best_runs"))
"""Section and figure that the page starts with: the first one that exists."""
SYNTHETIC = "The corpus is synthetic: it shows how the study works; nothing can be concluded from it."


@dataclass(frozen=True)
class ReportOptions(RecordsOptions):
    """Write all results of an experiment as one HTML page, with its figures and tables as files."""

    output: Path = Path("results") / "report"
    """Folder of report.html, with one folder per section for its figures and tables."""
    reference: str | None = None
    """Search space that the others are compared with; default: the one that the design declares, else cross_entropy."""
    audio: Audio = "if-allowed"
    """Audio of suspicious labels: if the corpus's licence permits redistribution; always, for private use; never."""
    to_mlflow: bool = False
    """Copy the page and the figures into MLflow too, as artifacts of a run named report."""


def main() -> int:
    """Run the command and return the exit code."""
    options = parse(ReportOptions)
    matplotlib.use("agg")
    matplotlib.rcParams["figure.max_open_warning"] = 0  # the page needs all figures at once
    console = make_console()
    records = open_records(options)
    check_reference(records, options.reference)
    sections = make_sections(records, options)
    sentences = answer(records, options.reference)
    try:
        opening = make_opening(records, options.reference)
    except NotImplementedError:
        opening = Opening((), sentences[0], tuple(sentences[1:]), (), ())
    page = render_report(records, opening, sections)
    paths = write_report(page, sections, options.output)
    paths += write_configurations(records, recommend(read_families(records, options.reference)), options.output)
    for sentence in (*records.remarks(SCRIPT), *sentences):
        say(console, sentence)
    titles = [section.title.removesuffix(f": {records.data}") for section in sections if section.missing]
    if titles:
        say(console, f"Results are missing in: {'; '.join(titles)}. The page has the reasons and what to do.")
    say(console, f"wrote {paths[0]}, and {len(paths) - 1} files of figures, tables and configurations next to it")
    if options.to_mlflow:
        say(console, f"copied into MLflow as run {log_report(records, paths, options.output)}")
    return 0


def make_sections(records: Records, options: ReportOptions) -> list[Section]:
    """Return every section, in the order of the page.

    Args:
        records: Records of the experiment.
        options: Options of the report; a section takes those that it has too.
    """
    return [_make_section(name, records, options) for name in SECTIONS]


def _make_section(name: str, records: Records, options: ReportOptions) -> Section:
    """Return a section, or one with the reason if it cannot be made, so that the others are still shown."""
    module = load_section(name)
    try:
        section = module.section(records, options_from(module, options))
    except UserError as error:
        section = Section(name, module.TITLE, missing=(str(error),))
    return about(section, records.data)


def render_report(records: Records, opening: Opening, sections: Sequence[Section]) -> str:
    """Return the page.

    Args:
        records: Records of the experiment.
        opening: The first screen.
        sections: Sections in the order of display.
    """
    subtitle = f"Report on experiment {records.experiment}: {extent(records)}"
    title = f"{records.data}: {TITLE[0].lower()}{TITLE[1:]}"
    figure = first_figure(sections)
    named = [replace(section, title=section.title.removesuffix(f": {records.data}")) for section in sections]
    return render(title, subtitle, opening, figure, warnings(records), named, records.mismatch)


def first_figure(sections: Sequence[Section]) -> NamedFigure | None:
    """Return the figure that the page starts with; None if there is none."""
    figures = {(section.name, figure.name): figure for section in sections for figure in section.figures}
    return next((figures[key] for key in FIRST_FIGURES if key in figures), None)


def extent(records: Records) -> str:
    """Return the number of trials, methods and noise levels of both stages."""
    stages = []
    if records.search is not None:
        table = records.search.table
        stages.append(
            f"{counted(len(table), 'trial')} of a search over {counted(table['space'].nunique(), 'method')} and "
            f"{counted(table['noise'].nunique(), 'noise level')}"
        )
    if not records.confirmed.empty:
        table = records.confirmed
        stages.append(
            f"{counted(len(table), 'trial')} of {counted(table['study'].nunique(), 'confirmation')} on "
            f"{counted(table['seed'].nunique(), 'seed')} and {counted(table['fold'].nunique(), 'test fold')}"
        )
    return "; ".join(stages)


def warnings(records: Records) -> list[str]:
    """Return remarks for the top of the page: a synthetic corpus, and trials that are not part of the report."""
    shown = (*records.matched.search, *records.matched.confirmed)
    lines = [SYNTHETIC] if any(run.data.tags.get(Tag.CORPUS) == "synthetic" for run in shown) else []
    return [*lines, *(line for line in records.remarks(SCRIPT) if line != records.mismatch)]
