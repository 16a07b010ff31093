"""Confirms what a search has chosen: python study/confirm.py --experiment ravdess --top 3 --seeds 5 --folds all.

Retrains the best configurations of each space and noise level, and each method's published default, on fresh seeds,
noise draws and folds, all epochs, and tests them. Read it from ``main`` down, then ``study/setup/confirmation.py``.
"""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import yaml
from rich.console import Console

from ser.config import Config
from ser.utils.command_line import EXIT_INTERRUPTED, parse
from ser.utils.errors import UserError
from study.backend.cluster import Slots
from study.messages import without_password
from study.plan import costs
from study.schema import FINISHED, KIND, TRIAL, Selection, Tag
from study.session import quieten, run_session
from study.setup.confirmation import Confirmation, ConfirmOptions, prepare_confirmation, write_plan
from study.tracking.confirmations import confirmed_table, representatives
from study.tracking.searches import make_console
from study.tracking.store import is_default_uri, quoted, search_all


def main() -> int:
    """Reads the options, prepares, trains and tests, and tells what came out.

    Returns:
        0 done; 1 finished, with trials that failed for good; 2 a mistake; 130 interrupted.
    """
    quieten()
    console = make_console()
    options = parse(ConfirmOptions)
    confirmation = prepare_confirmation(options, console)
    prepared = confirmation.prepared
    if options.plan:
        _announce(confirmation, None, console)
        if not (prepared.folder / "study.json").exists():
            prepared.lock.release()
            (prepared.folder / ".lock").unlink(missing_ok=True)
            prepared.folder.rmdir()
        return 0

    def begin(slots: Slots) -> None:
        write_plan(confirmation, options.study)
        _announce(confirmation, slots, console)

    ended = run_session(prepared, console, begin)
    tell = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    if ended.delivered:
        table = read(confirmation)
        tell(f"\n{summary(table, prepared.selection)}")
        for line in costs(prepared):
            tell(line)
    if not ended.complete or not ended.delivered:
        tell(f"\n{ended.reason} Go on with:\n  {_resume_command(options, prepared.options.name)}")
        return EXIT_INTERRUPTED
    for path in recommend(table, prepared.selection, options.output / str(prepared.options.name)):
        tell(f"wrote {path}")
    uri = without_password(options.tracking_uri)
    where = f"--experiment {shlex.quote(str(prepared.options.experiment))}"
    where += "" if is_default_uri(options.tracking_uri) else f" --tracking-uri {shlex.quote(uri)}"
    tell(f"\nNext:\n  the whole answer     python analysis/report.py {where}")
    tell(f"  what is significant  python analysis/significance.py {where}")
    return 1 if any(outcome.failures for outcome in ended.outcomes) else 0


def _announce(confirmation: Confirmation, slots: Slots | None, console: Console) -> None:
    tell = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    prepared, seeds = confirmation.prepared, confirmation.seeds
    total = sum(len(job.planned) for job in prepared.jobs)
    tell(
        f"confirmation {prepared.options.name}: {len(confirmation.candidates)} configurations × {len(seeds)} seeds × "
        f"{len(confirmation.folds)} folds = {total} trials × {prepared.epochs} epochs"
    )
    for one in confirmation.candidates:
        tell(f"  {one.noise} {one.space} {one.name}" + (f", run {one.source} of the search" if one.source else ""))
    tell(f"  chosen by {prepared.selection.meaning}, among finished trials of the search")
    tell(f"  seeds     {', '.join(map(str, seeds))}, each with its own noise draw, the same for all methods")
    seen = [fold for fold in confirmation.folds if fold != confirmation.held_out]
    tell(
        f"  folds     {confirmation.held_out} was held out by the search"
        + (f"; the search has seen the rows of {', '.join(map(str, seen))}" if seen else "")
    )
    if confirmation.held_out not in confirmation.folds:
        tell(f"            warning: the held-out fold {confirmation.held_out} is not among those that are tested")
    if slots is not None:
        tell(f"  trial     {slots.cpus:g} CPU, {slots.gpus:g} GPU; {slots.count} at a time")


def read(confirmation: Confirmation) -> pd.DataFrame:
    """The table of this confirmation's trials."""
    prepared = confirmation.prepared
    query = f"tags.`{KIND}` = '{TRIAL}' and tags.`{Tag.STUDY}` = {quoted(str(prepared.options.name))}"
    return confirmed_table(search_all(prepared.client, [prepared.experiment], query))[0]


def summary(table: pd.DataFrame, selection: Selection) -> str:
    """The methods of each noise level by their test UAR, in lines for people; best means by validation, not by test.

    Args:
        table: From ``study.tracking.confirmations``.
        selection: How a method's configuration is chosen.
    """
    lines = ["Test UAR against true labels, last epoch, mean ± deviation over seeds (best epoch, an oracle, beside it)"]
    chosen = representatives(table, selection)
    for noise, group in chosen.groupby("noise", sort=False):
        lines.append(f"{noise}:")
        for row in group.to_dict("records"):
            mine = table[(table["noise"] == noise) & (table["space"] == row["space"])]
            mine = mine[(mine["candidate"] == row["candidate"]) & (mine["status"] == FINISHED)]
            for seen, part in mine.groupby("seen"):
                by_seed = part.groupby("seed")[["uar", "uar_best_epoch"]].mean().astype(float)
                spread = f" ± {by_seed['uar'].std():.3f}" if len(by_seed) > 1 else ""
                lines.append(
                    f"  {row['space']} {row['candidate']}: {by_seed['uar'].mean():.3f}{spread} "
                    f"({by_seed['uar_best_epoch'].mean():.3f}), {len(part)} trials, "
                    + ("folds seen by the search" if seen else "the held-out fold")
                )
    lines.append("A difference between two of them is a finding only if analysis/significance.py says so.")
    return "\n".join(lines)


def recommend(table: pd.DataFrame, selection: Selection, folder: Path) -> list[Path]:
    """Writes the configuration with the best mean validation score of each noise level, for python -m ser.train.

    Args:
        table: From ``study.tracking.confirmations``.
        selection: How it is chosen.
        folder: Made if it is not there.

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
            scores = group.set_index("space")["selected"].astype(float)
            space = str(scores.idxmax() if selection.mode == "max" else scores.idxmin())
            candidate = str(group["candidate"][group["space"] == space].iloc[0])
            mine = table[(table["noise"] == noise) & (table["space"] == space) & (table["candidate"] == candidate)]
            mine = mine[mine["status"] == FINISHED]
            clean = mine[~mine["seen"].astype(bool)]
            tested = (clean if len(clean) else mine)["uar"].astype(float)
            configuration = Config.from_dotted(mine["parameters"].iloc[0]).to_dotted()
            header = [
                f"{space}, {candidate}, for noise level {noise}: the best mean {selection.metric} of "
                f"{len(chosen[chosen['noise'] == noise])} methods on validation rows.",
                f"Test UAR {tested.mean():.3f} over {len(tested)} trials"
                + (", on the fold that the search held out." if len(clean) else ", on folds that the search has seen."),
                "Whether it is better than the others is another question: python analysis/significance.py",
            ]
            path = folder / f"recommended-{str(noise).replace(':', '-').replace('/', '-')}.yaml"
            text = "".join(f"# {line}\n" for line in header) + yaml.safe_dump(configuration, sort_keys=True)
            path.write_text(text, encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def _resume_command(options: ConfirmOptions, name: str | None) -> str:
    default = ConfirmOptions()
    parts = ["python", "study/confirm.py", "--resume", "--name", str(name)]
    if options.storage_path != default.storage_path:
        parts += ["--storage-path", str(options.storage_path)]
    if not is_default_uri(options.tracking_uri):
        parts += ["--tracking-uri", without_password(options.tracking_uri)]
    if options.address is not None:
        parts += ["--address", options.address]
    return shlex.join(parts)
