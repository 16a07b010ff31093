"""The command ``python study/confirm.py``: test configurations with one network for each left-out speaker.

They are the best configurations of a search and each method's published default, or published defaults alone. Read it
from ``main`` down, then ``study/setup/confirmation.py``.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from ser.config import Config, stored
from ser.config_file import config_text
from ser.fold_classes import folds_lines
from ser.labels import CONSENSUS
from ser.metrics.absent_classes import absent_lines
from ser.utils.command_line import EXIT_INTERRUPTED
from ser.utils.errors import UserError
from study.backend.trial_resources import TrialResources
from study.commands.ending import resumable
from study.commands.plan import (
    costs,
    disk_warning,
    fine_tuning_warning,
    level_lines,
    pilot_components,
    power,
    show_plan,
)
from study.commands.printed import analysis_command, resume_command, say_next, ui_command
from study.commands.session import quieten, run_session
from study.console import make_console, say
from study.options import ConfirmOptions, StudyOptions
from study.schema import KIND, REPORT_PAGE, TRIAL, UNSEEN, Selection, Tag, space_and_labels
from study.setup.confirmation import Confirmation, prepare_confirmation
from study.setup.design import Design
from study.setup.prepared_study import PreparedStudy
from study.setup.resolve import absolute, data_name
from study.tracking.confirmations import chosen, confirmed_table, representatives, trials_of_representative
from study.tracking.matching import is_head
from study.tracking.store import quoted, search_all

SCRIPT = "study/confirm.py"


def main(options: ConfirmOptions) -> int:
    """Declare the design, train and test, and report what came out.

    Args:
        options: The confirmation's options.

    Returns:
        0 done; 1 finished, with trials that failed for good; 2 a user error; 70 an unexpected error before the study
        has begun; 130 stopped, to be resumed.
    """
    quieten()
    console = make_console()
    confirmation = prepare_confirmation(options, console)
    prepared, design = confirmation.prepared, confirmation.design
    if options.plan:
        announce(confirmation, None, console)
        for line in power(design, prepared.data.corpus):
            say(console, f"  {line}")
        return show_plan(prepared, console)
    return resumable(SCRIPT, prepared, console, lambda: _run(confirmation, options, console))


def _run(confirmation: Confirmation, options: ConfirmOptions, console: Console) -> int:
    """Run the confirmation and report; return the exit code."""
    prepared, design = confirmation.prepared, confirmation.design

    def begin(resources: TrialResources) -> None:
        design.write(prepared.folder)
        announce(confirmation, resources, console)
        for line in (*fine_tuning_warning(prepared, resources), *disk_warning(prepared)):
            say(console, line)

    ended = run_session(prepared, console, begin)
    if ended.delivered:
        table = read(confirmation)
        say(console, f"\n{summary(table, prepared.selection, prepared.options, design)}")
        for line in costs(prepared):
            say(console, line)
    if not ended.complete or not ended.delivered:
        say(console, f"\n{ended.reason} Resume with:\n  {resume_command(SCRIPT, prepared.options)}")
        return EXIT_INTERRUPTED
    if design.pilot:
        for line in power(design, prepared.data.corpus, pilot_components(prepared)):
            say(console, line)
    else:
        folder = absolute(options.output) / str(prepared.options.name)
        for path in write_chosen(table, prepared.selection, prepared.options, folder):
            say(console, f"wrote {path}")
        _next_commands(prepared, design, console)
    return 1 if any(outcome.failures for outcome in ended.outcomes) else 0


def _next_commands(prepared: PreparedStudy, design: Design, console: Console) -> None:
    """Print what a user may want to run next."""
    options = prepared.options
    lines = [
        ("write the report", analysis_command("analysis/report.py", options)),
        ("open the report, once it is written", REPORT_PAGE.absolute().as_uri()),
        ("what is significant", analysis_command("analysis/significance.py", options)),
    ]
    if design.test_corpora:
        lines.append(("on other corpora", analysis_command("analysis/across_corpora.py", options)))
    say_next(console, [*lines, ("look at the trainings", ui_command(options))])


def announce(confirmation: Confirmation, resources: TrialResources | None, console: Console) -> None:
    """Print the design.

    Args:
        confirmation: What is about to run.
        resources: What a trial gets; None if nothing runs.
        console: Where to print.
    """
    prepared, design = confirmation.prepared, confirmation.design
    total = sum(len(search.planned) for search in prepared.searches)
    kind = "pilot" if design.pilot else "confirmation"
    counts = ((design.candidates, "configuration"), (design.trained_folds, "fold"), (design.trained_seeds, "seed"))
    product = " × ".join(f"{len(some)} {word}{'s' * (len(some) > 1)}" for some, word in counts)
    say(
        console,
        f"{kind} {prepared.options.name}: {product} = {total} trials × {prepared.epochs} epochs; "
        f"design {design.digest}",
    )
    for line in (*prepared.data.corpus.notes, *_folds(design)):
        if line:
            say(console, f"  {line}")
    corpus = prepared.data.corpus
    for line in folds_lines(corpus, [design.fold(corpus, fold.number) for fold in design.trained_folds]):
        say(console, f"  warning: {line}")
    for line in level_lines(prepared):
        say(console, f"  {line}")
    for name, (first, *rest) in confirmation.tests.lines.items():
        say(console, f"  tested on {name} too: {first}")
        for line in rest:
            say(console, f"            {line}")
    for line in prepared.labels:
        say(console, f"  {line}")
    for one in design.candidates:
        source = f", run {one.source} of the search" if one.source else ""
        say(console, f"  {one.noise} {one.space} {one.name}{source}")
    if any(count > 1 for count in Counter((one.noise, one.space) for one in design.candidates).values()):
        say(console, f"  of several configurations a fold tests the one with the best {prepared.selection.meaning}")
    say(
        console,
        f"  seeds     {', '.join(map(str, design.trained_seeds))}: weights and noise draw of each (seed, fold), "
        "the draw the same for all methods",
    )
    if design.reference is None:
        say(console, f"  primary   none: {ConfirmOptions.reference} is not among the methods, so nothing is compared")
    if design.primary is not None:
        comparison = f"{design.primary['method']} − {design.reference} at {design.primary['level']}"
        say(console, f"  primary   {comparison}, declared before the first training")
    if resources is not None:
        say(console, f"  trial     {resources.in_words}")


def _folds(design: Design) -> list[str]:
    """Return what is tested in each fold, in lines for people."""
    tested, validating = len(design.folds[0].test), len(design.folds[0].validation)
    if design.unit == "training":
        lines = [f"folds     the official split: claims are about its {tested} test speakers, the unit is the training"]
    else:
        lines = [
            f"folds     {len(design.folds)}, one {design.unit} tested in each (fold 1: {tested} tested, {validating} "
            f"validation speakers, by rotation)"
        ]
    if design.searched:
        names = ", ".join(design.searched["validation"])
        lines.append(f"          not tested, because the search has chosen by them: {names}")
    return lines


def read(confirmation: Confirmation) -> pd.DataFrame:
    """Read the table of this confirmation's trials."""
    prepared = confirmation.prepared
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STUDY}` = {quoted(str(prepared.options.name))}"
    return confirmed_table(search_all(prepared.records.client, [prepared.records.experiment], query))


def summary(table: pd.DataFrame, selection: Selection, options: StudyOptions, design: Design) -> str:
    """Describe the methods of each noise level by the mean test UAR of their folds.

    Args:
        table: From ``study.tracking.confirmations.confirmed_table``.
        selection: How a fold chooses among the configurations of a method.
        options: Complete options of the confirmation.
        design: What was planned.
    """
    lines = [
        f"{data_name(options.corpus, options.corpus_root)}: test UAR against true labels, mean over "
        "folds: last epoch; in brackets, an early stop by noisy validation"
    ]
    trials = chosen(table, selection)
    for level in design.levels:
        group = trials[trials["noise"] == level]
        if len(group):
            lines.append(f"{level}:")
        for method, rows in group.groupby("space", sort=False):
            scores = rows[["uar", "uar_stopped"]].astype(float).mean()
            seen = int((rows["exposure"] != UNSEEN).sum())
            lines.append(
                f"  {method}: {scores['uar']:.3f} ({scores['uar_stopped']:.3f}), {len(rows)} of "
                f"{len(design.trained_folds) * len(design.trained_seeds)} trainings"
                + (f"; in {seen} the search had trained on the test speakers" if seen else "")
            )
    lines += differing_arithmetic(trials)
    if design.pilot:
        return "\n".join(lines)
    lines += absent_lines(
        ((json.loads(row["absent"]), f"fold {row['fold']}") for row in trials.to_dict("records") if row.get("absent")),
        len(design.classes),
    )
    lines.append(
        "Whether two of them differ is another question, which this answers: "
        f"{analysis_command('analysis/significance.py', options)}"
    )
    return "\n".join(lines)


def differing_arithmetic(trials: pd.DataFrame) -> list[str]:
    """Return a sentence if an analysis would leave trainings out for their arithmetic; else none.

    Args:
        trials: Rows of ``study.tracking.confirmations.confirmed_table``.
    """
    kinds: dict[tuple[bool, str], Counter[str]] = defaultdict(Counter)
    for row in trials.to_dict("records"):
        if row.get("arithmetic"):
            given = row["parameters"]
            kinds[is_head(given), given.get("training.precision", "auto")][row["arithmetic"]] += 1
    counts = sum((found for found in kinds.values() if len(found) > 1), Counter[str]())
    if not counts:
        return []
    counted = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
    return [f"The trainings differ in arithmetic ({counted}): analyses show the newest and name the others."]


def write_chosen(table: pd.DataFrame, selection: Selection, options: StudyOptions, folder: Path) -> list[Path]:
    """Write each method's configuration with the best mean validation score, for ``python -m ser.train``.

    Args:
        table: From ``study.tracking.confirmations.confirmed_table``.
        selection: How it is chosen.
        options: Complete options of the confirmation.
        folder: Created if it does not exist.

    Returns:
        The files, one for each noise level and method.

    Raises:
        UserError: The folder is not writable.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for row in representatives(table, selection).to_dict("records"):
            level = str(row["noise"]).replace(":", "-").replace("/", "-")
            path = folder / f"{level}-{row['space']}.yaml"
            path.write_text(_configuration(table, selection, options, row), encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def _configuration(
    table: pd.DataFrame, selection: Selection, options: StudyOptions, row: Mapping[Hashable, Any]
) -> str:
    """Return a configuration file whose comments say what it is."""
    mine = trials_of_representative(table, row)
    data = data_name(options.corpus, options.corpus_root)
    header = [
        f"{data}: {row['space']}, {row['candidate']}, for noise level {row['noise']}: the best mean {selection.metric} "
        f"of this method's configurations, {row['selected']:.3f} over {len(mine)} trainings.",
        f"Which method to train with is another question: {analysis_command('analysis/report.py', options)}",
    ]
    _, kind = space_and_labels(row["space"])
    header += [f"Train with --labels {kind}."] if kind != CONSENSUS else []
    configuration = Config.from_dotted(stored(mine["parameters"].iloc[0])).to_dotted()
    return "".join(f"# {line}\n" for line in header) + config_text(configuration)
