"""Report of an experiment as one HTML page: the answer, every section, and their files.

The page loads nothing from the network; figures and tables are also written as files next to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import matplotlib
from rich.console import Console

from analysis.common.command import Steps
from analysis.common.families import read_families
from analysis.common.methods import check_reference
from analysis.common.records import Records, open_records
from analysis.common.registry import SECTIONS, load_section, options_from
from analysis.common.section import NamedFigure, Section, about
from analysis.common.text import counted
from analysis.options import ReportOptions
from analysis.page.artifacts import advice_table, log_report, report_description, write_report
from analysis.page.html.render import render
from analysis.page.opening import Opening, make_opening
from analysis.page.recommendation import recommend, write_configurations
from ser.utils.errors import UserError
from study.console import make_console, say, show_table
from study.schema import Tag

SCRIPT = "analysis/report.py"
TITLE = "Which loss should I train with when my labels are noisy?"
FIRST_FIGURES = (("dose_response", "dose_response"), ("significance", "significance"), ("best_runs", "best_runs"))
"""Section and figure that the page starts with: the first one that exists."""
SYNTHETIC = "The corpus is synthetic: it shows how the study works; nothing can be concluded from it."


def main(options: ReportOptions) -> int:
    """Write the report and return the exit code.

    Args:
        options: Options of the command.
    """
    matplotlib.use("agg")
    matplotlib.rcParams["figure.max_open_warning"] = 0  # the page needs all figures at once
    with Steps(2 + 2 * len(SECTIONS)) as steps:
        steps.begin("reading the records")
        records = open_records(options)
        check_reference(records, options.reference)
        sections = make_sections(records, options, steps.over(SECTIONS, lambda name: load_section(name).TITLE))
        steps.begin("the answer and the page")
        opening = make_opening(records, options.reference)
        page = render_report(records, opening, sections)
        named = steps.over(sections, lambda one: f"files of {own_title(one, records)}")
        paths = write_report(page, named, options.output)
        paths += write_configurations(records, recommend(read_families(records, options.reference)), options.output)
        about = report_description(opening)
        copied = log_report(records, paths, options.output, about) if options.to_mlflow else ""
    console = make_console()
    show_opening(opening, console)
    for remark in records.remarks(SCRIPT):
        say(console, remark)
    if lacking := sum(bool(section.missing) for section in sections):
        say(console, f"Results are missing in {counted(lacking, 'section')}; the page has the reasons.")
    if copied:
        say(console, f"Copied into MLflow as run {copied}.")
    say(console, f"{counted(len(paths) - 1, 'file')} of figures, tables and configurations are next to the report:")
    say(console, paths[0].resolve().as_uri())
    return 0


def show_opening(opening: Opening, console: Console) -> None:
    """Print what to train with at each noise level, and the primary comparison."""
    if opening.advice:
        show_table(console, advice_table(opening), "What to train with")
    say(console, opening.primary)


def make_sections(records: Records, options: ReportOptions, names: Iterable[str] = tuple(SECTIONS)) -> list[Section]:
    """Return sections of the page.

    Args:
        records: Records of the experiment.
        options: Options of the report; a section takes those that it has too.
        names: Keys of ``SECTIONS`` in the order of the page.
    """
    return [_make_section(name, records, options) for name in names]


def _make_section(name: str, records: Records, options: ReportOptions) -> Section:
    """Return a section, or one with the reason if it cannot be made, so that the others are still shown."""
    module = load_section(name)
    try:
        section = module.section(records, options_from(module, options))
    except UserError as error:
        section = Section(name, module.TITLE, missing=(str(error),))
    return about(section, records.data)


def own_title(section: Section, records: Records) -> str:
    """Return the title of a section without the name of the data."""
    return section.title.removesuffix(f": {records.data}")


def without_data(section: Section, records: Records) -> Section:
    """Return a section whose title and captions do not name the data, which the title of the page does."""
    data = f"{records.data}: "
    return replace(
        section,
        title=own_title(section, records),
        tables=tuple(replace(one, caption=one.caption.removeprefix(data)) for one in section.tables),
        figures=tuple(replace(one, caption=one.caption.removeprefix(data)) for one in section.figures),
    )


def render_report(records: Records, opening: Opening, sections: Sequence[Section]) -> str:
    """Return the page.

    Args:
        records: Records of the experiment.
        opening: The first screen.
        sections: Sections in the order of display.
    """
    subtitle = f"Report on experiment {records.experiment}: {extent(records)}"
    title = f"{records.data}: {TITLE[0].lower()}{TITLE[1:]}"
    shown = [without_data(section, records) for section in sections]
    return render(title, subtitle, opening, first_figure(shown), warnings(records), shown, records.mismatch)


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
