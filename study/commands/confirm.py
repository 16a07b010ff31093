"""The command ``python study/confirm.py``: retrain and test what a search has chosen.

The best configurations of each space and noise level, and each method's published default, are trained for all epochs
on fresh seeds, noise draws and folds, and tested. Read it from ``main`` down, then ``study/setup/confirmation.py``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml
from rich.console import Console

from ser.config import Config
from ser.utils.command_line import EXIT_INTERRUPTED, parse
from ser.utils.command_names import command_line
from ser.utils.errors import UserError
from study.backend.trial_resources import TrialResources
from study.commands.printed import analysis_command, resume_command
from study.console import make_console, say
from study.options import ConfirmOptions
from study.plan import costs
from study.schema import FINISHED, KIND, TRIAL, Selection, Tag
from study.session import quieten, run_session
from study.setup.confirmation import Confirmation, prepare_confirmation
from study.setup.resolve import absolute
from study.tracking.confirmations import confirmed_table, representatives
from study.tracking.store import quoted, search_all

SCRIPT = "study/confirm.py"


def main() -> int:
    """Read the options, prepare, train and test, and report what came out.

    Returns:
        0 done; 1 finished, with trials that failed for good; 2 a user error; 130 interrupted.
    """
    quieten()
    console = make_console()
    options = parse(ConfirmOptions)
    confirmation = prepare_confirmation(options, console)
    prepared = confirmation.prepared
    if options.plan:
        _announce(confirmation, None, console)
        prepared.release()
        return 0

    def begin(resources: TrialResources) -> None:
        confirmation.plan.write(prepared.folder)
        _announce(confirmation, resources, console)

    ended = run_session(prepared, console, begin)
    if ended.delivered:
        table = read(confirmation)
        say(console, f"\n{summary(table, prepared.selection)}")
        for line in costs(prepared):
            say(console, line)
    if not ended.complete or not ended.delivered:
        say(console, f"\n{ended.reason} Resume with:\n  {resume_command(SCRIPT, prepared.options)}")
        return EXIT_INTERRUPTED
    for path in recommend(table, prepared.selection, absolute(options.output) / str(prepared.options.name)):
        say(console, f"wrote {path}")
    say(console, f"\nNext:\n  the whole answer     {analysis_command('analysis/report.py', prepared.options)}")
    say(console, f"  what is significant  {analysis_command('analysis/significance.py', prepared.options)}")
    return 1 if any(outcome.failures for outcome in ended.outcomes) else 0


def _announce(confirmation: Confirmation, resources: TrialResources | None, console: Console) -> None:
    """Print what is about to run."""
    prepared, plan, held_out = confirmation.prepared, confirmation.plan, confirmation.held_out
    total = sum(len(search.planned) for search in prepared.searches)
    say(
        console,
        f"confirmation {prepared.options.name}: {len(plan.candidates)} configurations × {len(plan.seeds)} seeds × "
        f"{len(plan.folds)} folds = {total} trials × {prepared.epochs} epochs",
    )
    for one in plan.candidates:
        source = f", run {one.source} of the search" if one.source else ""
        say(console, f"  {one.noise} {one.space} {one.name}{source}")
    say(console, f"  chosen by {prepared.selection.meaning}, among finished trials of the search")
    seeds = ", ".join(map(str, plan.seeds))
    say(console, f"  seeds     {seeds}, each with its own noise draw, the same for all methods")
    seen = [str(fold) for fold in plan.folds if fold != held_out]
    known = f"; the search has seen the rows of {', '.join(seen)}" if seen else ""
    say(console, f"  folds     {held_out} was held out by the search{known}")
    if held_out not in plan.folds:
        say(console, f"            warning: the held-out fold {held_out} is not among the tested folds")
    if resources is not None:
        say(console, f"  trial     {resources.cpus:g} CPU, {resources.gpus:g} GPU; {resources.count} at a time")


def read(confirmation: Confirmation) -> pd.DataFrame:
    """Read the table of this confirmation's trials."""
    prepared = confirmation.prepared
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STUDY}` = {quoted(str(prepared.options.name))}"
    return confirmed_table(search_all(prepared.records.client, [prepared.records.experiment], query))[0]


def summary(table: pd.DataFrame, selection: Selection) -> str:
    """Describe the methods of each noise level by their test UAR; their configuration is chosen by validation.

    Args:
        table: From ``study.tracking.confirmations.confirmed_table``.
        selection: How a method's configuration is chosen.
    """
    lines = [
        "Test UAR against true labels, last epoch, mean ± deviation over seeds (best epoch, an oracle, in brackets)"
    ]
    chosen = representatives(table, selection)
    for noise, group in chosen.groupby("noise", sort=False):
        lines.append(f"{noise}:")
        for row in group.to_dict("records"):
            for seen, trials in _finished(table, noise, row["space"], row["candidate"]).groupby("seen"):
                by_seed = trials.groupby("seed")[["uar", "uar_best_epoch"]].mean().astype(float)
                spread = f" ± {by_seed['uar'].std():.3f}" if len(by_seed) > 1 else ""
                lines.append(
                    f"  {row['space']} {row['candidate']}: {by_seed['uar'].mean():.3f}{spread} "
                    f"({by_seed['uar_best_epoch'].mean():.3f}), {len(trials)} trials, "
                    + ("folds seen by the search" if seen else "the held-out fold")
                )
    lines.append(
        f"Whether two of them differ is another question: {command_line('analysis/significance.py')} answers it."
    )
    return "\n".join(lines)


def _finished(table: pd.DataFrame, noise: object, space: object, candidate: object) -> pd.DataFrame:
    """Return the finished trials of a candidate."""
    mine = (table["noise"] == noise) & (table["space"] == space) & (table["candidate"] == candidate)
    return table[mine & (table["status"] == FINISHED)]


def recommend(table: pd.DataFrame, selection: Selection, folder: Path) -> list[Path]:
    """Write the configuration with the best mean validation score of each noise level, for ``python -m ser.train``.

    Args:
        table: From ``study.tracking.confirmations.confirmed_table``.
        selection: How it is chosen.
        folder: Created if it does not exist.

    Returns:
        The files.

    Raises:
        UserError: The folder is not writable.
    """
    paths = []
    chosen = representatives(table, selection)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for noise, group in chosen.groupby("noise", sort=False):
            path = folder / f"recommended-{str(noise).replace(':', '-').replace('/', '-')}.yaml"
            path.write_text(_recommendation(table, selection, str(noise), group), encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def _recommendation(table: pd.DataFrame, selection: Selection, noise: str, methods: pd.DataFrame) -> str:
    """Return a configuration file whose comments say what it is."""
    scores = methods.set_index("space")["selected"].astype(float)
    space = str(scores.idxmax() if selection.mode == "max" else scores.idxmin())
    candidate = str(methods["candidate"][methods["space"] == space].iloc[0])
    mine = _finished(table, noise, space, candidate)
    clean = mine[~mine["seen"].astype(bool)]
    tested = (clean if len(clean) else mine)["uar"].astype(float)
    header = [
        f"{space}, {candidate}, for noise level {noise}: the best mean {selection.metric} of {len(methods)} methods on "
        "validation rows.",
        f"Test UAR {tested.mean():.3f} over {len(tested)} trials"
        + (", on the fold that the search held out." if len(clean) else ", on folds that the search has seen."),
        f"Whether it is better than the others is another question: {command_line('analysis/significance.py')}",
    ]
    configuration = Config.from_dotted(mine["parameters"].iloc[0]).to_dotted()
    return "".join(f"# {line}\n" for line in header) + yaml.safe_dump(configuration, sort_keys=True)
