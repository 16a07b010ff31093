"""The main job: python study/run.py --space proselflc.

Read it from ``main`` down, then ``study/trial/trainable.py`` and ``ser/training/loop.py``, for the whole life of a trial.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial

import ray
from rich.console import Console

from ser.utils.command_line import EXIT_INTERRUPTED, parse
from study.backend.cluster import Slots
from study.environment import BEGAN
from study.messages import without_password
from study.options import StudyOptions
from study.plan import costs, show_plan
from study.search.run_search import Outcome
from study.session import quieten, run_session
from study.setup.prepare import Preparation, prepare
from study.setup.pruners import grace_period, warning
from study.setup.spaces import load_space, space_names
from study.tracking.searches import best_runs, caveats, display, make_console, read_trials, rich_table
from study.tracking.store import is_default_uri

MANY = 12


def main() -> int:
    """Reads the options, prepares, searches every space at every level, and tells what came out.

    Returns:
        0 done; 1 finished, with trials that failed for good; 2 a mistake; 130 interrupted.
    """
    quieten()
    console = make_console()
    options = parse(StudyOptions)
    if options.list_spaces:
        _print(console, "\n\n".join("\n".join(load_space(name, {}).describe()) for name in space_names()))
        return 0
    try:
        prepared = prepare(options, console)
    except BaseException:
        ray.shutdown()  # It is there before the study is known to be right.
        raise
    if options.plan:
        return show_plan(prepared, console)
    ended = run_session(prepared, console, lambda slots: _announce(prepared, slots, console))
    if ended.delivered:
        _report(prepared, ended.outcomes, console)
    if not ended.complete or not ended.delivered:
        _print(console, f"\n{ended.reason} Go on with:\n  {resume_command(prepared.options)}")
        return EXIT_INTERRUPTED
    _next_commands(prepared, console)
    return 1 if any(outcome.failures for outcome in ended.outcomes) else 0


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _announce(prepared: Preparation, slots: Slots, console: Console) -> None:
    options, corpus, fold = prepared.options, prepared.corpus, prepared.split
    store = "built" if prepared.store.built else "reused"
    searches = len(prepared.jobs)

    tell = partial(_print, console)
    tell(f"study {options.name}: {searches} searches × {options.planned_trials} trials × {prepared.epochs} epochs")
    tell(
        f"  corpus    {corpus.name}: {len(corpus)} utterances, {corpus.table['speaker'].nunique()} speakers, "
        f"{len(corpus.classes)} classes (chance UAR {1 / len(corpus.classes):.1%})"
        + (f"; {len(corpus.excluded)} excluded" if corpus.excluded else "")
    )
    speakers = sorted(set(corpus.table["speaker"].iloc[fold.validation]))
    held = ", ".join(speakers[:MANY]) + (f" and {len(speakers) - MANY} more" if len(speakers) > MANY else "")
    tell(
        f"  fold      {fold.number} of {fold.count} ({fold.unit}): {len(fold.train)} train, {len(fold.validation)} "
        f"validation ({held}), {len(fold.test)} test, out of the search's reach"
    )
    if fold.warning:
        tell(f"            {fold.warning}")
    for job in prepared.jobs:
        grace = grace_period(job.space, prepared.base, prepared.epochs)
        if (told := warning(options.scheduler, job.space, grace, prepared.epochs)) and job.level == prepared.jobs[
            0
        ].level:
            tell(f"            warning: {told}")
    for level, manifest in {job.level: job.task.manifest for job in prepared.jobs}.items():
        rates = ", ".join(
            f"{name} {part['rate']:.2%}" for name, part in manifest["parts"].items() if part["rate"] is not None
        )
        tell(f"  noise     {level}: {manifest['recipe']}{f', realised: {rates}' if rates else ''}")
        if manifest.get("note"):
            tell(f"            {manifest['note']}")
    tell(f"  features  {store} in {prepared.store_seconds:.1f} s")
    tell(f"  selection {prepared.selection.meaning}")
    tell(f"  trial     {prepared.models}; {slots.cpus:g} CPU, {slots.gpus:g} GPU; {slots.count} at a time")
    tell(f"  records   {without_password(options.tracking_uri)}, experiment {options.experiment}")
    if corpus.name == "synthetic" and not options.pinned:
        tell(
            "  scaled down for a first look; the full size is --width 1 --epochs 50 --batch-size 32 --trials 40 "
            "--set training.crop_seconds=5 model.dropout=1"
        )


def _report(prepared: Preparation, outcomes: Sequence[Outcome], console: Console) -> None:
    for job, outcome in zip(prepared.jobs, outcomes, strict=False):
        for number, reason in outcome.failures.items():
            _print(console, f"failed: {job.title} trial {number}: {reason}")
    trials = read_trials(prepared.client, prepared.experiment, prepared.options.name)
    if trials is None:
        return
    best = best_runs(trials)
    title = f"Best run per noise level, study {prepared.options.name}"
    console.print()
    console.print(rich_table(display(best, trials.selection), title))
    for line in caveats(trials, best):
        console.print(line, highlight=False)
    if prepared.corpus.name == "synthetic":
        console.print("The corpus is synthetic: this shows how the study works; nothing is concluded from it.")
    first = trials.table["start"].min() / 1000 - BEGAN
    spent = f"{time.time() - BEGAN:.0f} s in all"
    if first > 0:
        spent += f"; {first:.1f} s from the command to the first trial"
    console.print(spent, highlight=False)
    for line in costs(prepared):
        _print(console, line)


def _next_commands(prepared: Preparation, console: Console) -> None:
    options = prepared.options
    uri, experiment = without_password(options.tracking_uri), shlex.quote(str(options.experiment))
    more = "" if is_default_uri(options.tracking_uri) else f" --tracking-uri {shlex.quote(uri)}"
    mlflow_ui = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    lines = [
        ("compare the trials", mlflow_ui),
        ("best runs as table, CSV, Markdown, LaTeX", f"python analysis/best_runs.py --experiment {experiment}{more}"),
    ]
    if prepared.corpus.name == "synthetic":
        real = "python study/run.py --space proselflc cross_entropy --corpus ravdess --corpus-root PATH"
        lines.append(("the same study on real speech", real))
    lines.append(("go on after an interruption", resume_command(options)))
    if sys.prefix != sys.base_prefix and "VIRTUAL_ENV" not in os.environ:
        lines.insert(0, ("make these commands work", f"source {shlex.quote(sys.prefix)}/bin/activate"))
    width = max(len(text) for text, _ in lines)
    _print(console, "\nNext:")
    for text, command in lines:
        _print(console, f"  {text:<{width}}  {command}")
    if "***" in more + resume_command(options):
        _print(console, "  (put the password in place of ***)")


def resume_command(options: StudyOptions) -> str:
    """The command that goes on with a study."""
    default = StudyOptions()
    fold = ["python", "study/run.py", "--resume", "--name", str(options.name)]
    if options.storage_path != default.storage_path:
        fold += ["--storage-path", str(options.storage_path)]
    if not is_default_uri(options.tracking_uri) and without_password(options.tracking_uri) != options.tracking_uri:
        fold += ["--tracking-uri", without_password(options.tracking_uri)]
    if options.address is not None:
        fold += ["--address", options.address]
    return shlex.join(fold)
