"""The command ``python study/run.py``: search every space at every noise level.

Read it from ``main`` down, then ``study/setup/prepare.py``, ``study/commands/session.py``,
``study/search/run_search.py``, ``study/trial/trainable.py`` and ``ser/training/loop.py``: they are the whole life of a
trial.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from ser.fold_classes import class_lines
from ser.labels import CONSENSUS
from ser.utils.command_line import EXIT_INTERRUPTED
from ser.utils.command_names import command_line
from ser.utils.errors import without_password
from ser.utils.printing import print_table
from study.backend.trial_resources import TrialResources
from study.commands.ending import resumable
from study.commands.plan import costs, disk_warning, fine_tuning_warning, level_lines, show_plan
from study.commands.printed import analysis_command, resume_command, say_next, ui_command
from study.commands.session import quieten, run_session
from study.console import MISSING, make_console, say, show_table
from study.environment import BEGAN
from study.options import StudyOptions
from study.search.run_search import Outcome
from study.setup.prepare import prepare
from study.setup.prepared_study import PreparedStudy
from study.setup.pruners import grace_period, scheduler_warning
from study.setup.resolve import data_name
from study.setup.spaces import Space, load_space, space_names
from study.tracking.best_table import PARAMETERS, text_table
from study.tracking.searches import best_runs, caveats, read_trials

SCRIPT = "study/run.py"
SPEAKERS_SHOWN = 12


def main(options: StudyOptions) -> int:
    """Prepare, search every space at every level, and report what came out.

    Args:
        options: The study's options.

    Returns:
        0 done; 1 finished, with trials that failed for good; 2 a user error; 70 an unexpected error before the study
        has begun; 130 stopped, to be resumed.
    """
    quieten()
    console = make_console()
    if options.list_spaces is not None:
        list_spaces(options.list_spaces, console)
        return 0
    prepared = prepare(options, console)
    if options.plan:
        for line in (*class_lines(prepared.data.corpus, prepared.data.fold), *level_lines(prepared)):
            say(console, line)
        return show_plan(prepared, console)
    return resumable(SCRIPT, prepared, console, lambda: _run(prepared, console))


def list_spaces(names: Sequence[str], console: Console) -> None:
    """Print search spaces.

    Args:
        names: Spaces of which all is printed; if none is named, each space has a line.
        console: Where to print.
    """
    for name in names:
        say(console, "\n".join(load_space(name, {}).describe()) + "\n")
    if not names:
        rows = [_space_row(load_space(name, {})) for name in space_names()]
        print_table(console, ("space", "loss", "searched parameters"), rows, numbers=["searched parameters"])
        say(console, f"Ranges, points and source of a space: {command_line(SCRIPT)} --list-spaces {space_names()[0]}")


def _space_row(space: Space) -> tuple[str, str, str]:
    """Return name, loss and number of searched parameters of a space."""
    ranges = space.ranges()
    loss = ranges.get("loss.name", MISSING).removeprefix("= ")
    searched = sum(not values.startswith("= ") or " or " in values for values in ranges.values())
    return space.name, loss if " " not in loss else "searched", str(searched)


def _run(prepared: PreparedStudy, console: Console) -> int:
    """Run the study and report; return the exit code."""
    ended = run_session(prepared, console, lambda resources: _announce(prepared, resources, console))
    if ended.delivered:
        _report(prepared, ended.outcomes, console)
    if not ended.complete or not ended.delivered:
        say(console, f"\n{ended.reason} Resume with:\n  {resume_command(SCRIPT, prepared.options)}")
        return EXIT_INTERRUPTED
    _next_commands(prepared, console)
    return 1 if any(outcome.failures for outcome in ended.outcomes) else 0


def _announce(prepared: PreparedStudy, resources: TrialResources, console: Console) -> None:
    """Print what is about to run."""
    options, data, count = prepared.options, prepared.data, len(prepared.searches)
    say(
        console,
        f"study {options.name}: {count} search{'es' * (count > 1)} × {options.planned_trials} trials × "
        f"{prepared.epochs} epochs",
    )
    for line in (*_about_data(prepared), *_about_pruning(prepared), *_about_noise(prepared)):
        say(console, line)
    built = "built" if data.store.built else "reused"
    say(console, f"  features  {built} in {data.seconds:.1f} s")
    say(console, f"  selection {prepared.selection.meaning}")
    say(console, f"  trial     {prepared.models}; {resources.in_words}")
    say(console, f"  records   {without_password(str(options.tracking_uri))}, experiment {options.experiment}")
    for line in (*fine_tuning_warning(prepared, resources), *disk_warning(prepared)):
        say(console, line)
    if data.corpus.name == "synthetic" and not options.fixed:
        say(
            console,
            "  scaled down for a first look; the full size is --width 1 --epochs 50 --batch-size 32 --trials 40 "
            "--set training.crop_seconds=5 model.dropout=1",
        )


def _about_data(prepared: PreparedStudy) -> list[str]:
    corpus, fold = prepared.data.corpus, prepared.data.fold
    speakers = sorted(set(corpus.table["speaker"].iloc[fold.validation]))
    more = len(speakers) - SPEAKERS_SHOWN
    shown = ", ".join(speakers[:SPEAKERS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    lines = [
        f"  corpus    {corpus.name}: {len(corpus)} utterances, {corpus.table['speaker'].nunique()} speakers, "
        f"{len(corpus.classes)} classes (chance UAR {1 / len(corpus.classes):.1%})"
        + (f"; {len(corpus.excluded)} excluded" if corpus.excluded else ""),
        f"  fold      {fold.number} of {fold.count} ({fold.unit}): {len(fold.train)} train, {len(fold.validation)} "
        f"validation ({shown}), {len(fold.test)} test, which the search cannot see",
    ]
    about_fold = (fold.warning, *class_lines(corpus, fold))
    lines += [f"            {line}" for line in (*corpus.notes, *about_fold) if line]
    lines += [f"            {line}" for line in level_lines(prepared)]
    return lines


def _about_pruning(prepared: PreparedStudy) -> list[str]:
    """Return a warning for each space whose trials the pruner can hardly stop."""
    options = prepared.options
    spaces = {search.space.name: search.space for search in prepared.searches}.values()
    found = [
        scheduler_warning(
            options.scheduler, space, grace_period(space, options.defaults, prepared.epochs), prepared.epochs
        )
        for space in spaces
    ]
    return [f"            warning: {text}" for text in found if text]


def _about_noise(prepared: PreparedStudy) -> list[str]:
    lines = []
    manifests = {one.level: one.task.manifest for one in prepared.searches if one.space.labels == CONSENSUS}
    for level, manifest in manifests.items():
        rates = ", ".join(
            f"{name} {subset['rate']:.2%}" for name, subset in manifest["parts"].items() if subset["rate"] is not None
        )
        lines.append(f"  noise     {level}: {manifest['recipe']}{f', realised: {rates}' if rates else ''}")
        if manifest.get("note"):
            lines.append(f"            {manifest['note']}")
    return [*lines, *(f"  {line}" for line in prepared.labels)]


def _report(prepared: PreparedStudy, outcomes: Sequence[Outcome], console: Console) -> None:
    """Print failures, the best runs, and the costs."""
    for search, outcome in zip(prepared.searches, outcomes, strict=False):
        for number, reason in outcome.failures.items():
            say(console, f"failed: {search.title} trial {number}: {reason}")
        if outcome.repeats:
            say(
                console,
                f"{search.title}: {outcome.repeats} of {len(outcome.entries)} trials repeat the configuration of an "
                "earlier one, and so its training. A space with few configurations needs no more trials than it has.",
            )
    trials = read_trials(prepared.records.client, prepared.records.experiment, prepared.options.name)
    if trials is None:
        return
    best = best_runs(trials)
    data = data_name(prepared.options.corpus, prepared.options.corpus_root)
    title = f"{data}: best run per noise level, study {prepared.options.name}"
    show_table(console, text_table(best, trials.selection), title, below=PARAMETERS)
    for line in (*caveats(trials, best), *trials.absent, *trials.left_out):
        say(console, line)
    if prepared.data.corpus.name == "synthetic":
        say(console, "The corpus is synthetic: this shows how the study works; nothing can be concluded from it.")
    first = trials.table["start"].min() / 1000 - BEGAN
    started = f"; {first:.1f} s from the command to the first trial" if first > 0 else ""
    say(console, f"{time.time() - BEGAN:.0f} s in all{started}")
    for line in costs(prepared):
        say(console, line)


def _next_commands(prepared: PreparedStudy, console: Console) -> None:
    """Print what a user may want to run next."""
    options = prepared.options
    lines = [
        ("look at the trials", ui_command(options)),
        ("test the best of them", analysis_command("study/confirm.py", options)),
        ("write the report", analysis_command("analysis/report.py", options)),
        ("best runs as table, CSV, Markdown, LaTeX", analysis_command("analysis/best_runs.py", options)),
    ]
    if prepared.data.corpus.name == "synthetic":
        real = f"{command_line(SCRIPT)} --space proselflc cross_entropy --corpus ravdess --corpus-root PATH"
        lines.append(("the same study on real speech", real))
    lines.append(("resume or extend this study", resume_command(SCRIPT, options)))
    if sys.prefix != sys.base_prefix and "VIRTUAL_ENV" not in os.environ:
        lines.insert(0, ("activate the environment first", f"source {shlex.quote(sys.prefix)}/bin/activate"))
    say_next(console, lines)
