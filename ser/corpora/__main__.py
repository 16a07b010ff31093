"""Gets a corpus and tells what is in it: python -m ser.corpora describe ravdess --root PATH."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from ser.corpora import NAMES, load, parse_options
from ser.corpora.corpus import EXCLUDE_ADVICE
from ser.corpora.description.printing import print_description
from ser.corpora.description.summary import Description, describe
from ser.corpora.fetch import FetchOptions, fetch
from ser.noise.label_files import output_folder
from ser.utils.command_line import parse_commands, run_command
from ser.utils.errors import DataErrors, UserError

DESCRIPTION, UTTERANCES, FAULTS = "describe.json", "utterances.csv", "faults.txt"


@dataclass(frozen=True)
class DescribeOptions:
    """Decodes a corpus, and prints what one wants to know before training: sizes, agreement, folds, faults."""

    name: tyro.conf.Positional[str]
    """Corpus: synthetic, ravdess, table, … (docs/corpora.md)."""
    root: Path | None = None
    """The corpus's folder; for table the CSV or Parquet file."""
    exclude: Path | None = None
    """File with utterances to leave out, one a line."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """The corpus's own options, such as votes=face for crema-d (docs/corpora.md)."""
    output: Path | None = None
    """Folder for describe.json, utterances.csv, faults.txt and figures; default none."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse_commands({"describe": DescribeOptions, "fetch": FetchOptions})
    if isinstance(options, FetchOptions):
        fetch(options.name, options.root)
    else:
        run_describe(options)
    return 0


def run_describe(options: DescribeOptions) -> None:
    """Prints the description, and writes it if asked to.

    Raises:
        UserError: A mistake in the options, or an output folder that cannot be written.
        DataErrors: Faults in the corpus; those of the audio come after everything else is printed and written.
    """
    if options.root is None and options.name in NAMES and options.name != "synthetic":
        raise UserError(f"corpus {options.name!r} needs its root: pass --root PATH.")
    corpus = load(options.name, options.root, options.exclude, parse_options(options.corpus_options))
    if options.output is not None:
        _check_output(output_folder(options.output))
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        bar = progress.add_task("decoding", total=len(corpus))
        found = describe(corpus, lambda done, total: progress.update(bar, completed=done))
    console = Console(markup=False, emoji=False, highlight=False)
    print_description(found.numbers, console)
    advice = EXCLUDE_ADVICE
    if options.output is not None:
        try:
            paths = _write(found, corpus.classes, options.output)
        except OSError as error:
            raise UserError(f"--output {str(options.output)!r} is not writable: {error.strerror or error}.") from error
        for path in paths:
            console.print(f"wrote {path}", soft_wrap=True)
        listed = shlex.quote(str(options.output / FAULTS))
        advice = f"Mend the data, or leave these out: pass --exclude {listed}."
    if found.faults:
        raise DataErrors(f"corpus {corpus.name!r}", found.faults, advice)


def _check_output(folder: Path) -> None:
    """Before minutes are spent on decoding: it can be written, and holds nothing of these names but a description."""
    from ser.corpora.description.figures import NAMES as FIGURES

    there = [name for name in (UTTERANCES, FAULTS, *FIGURES) if (folder / name).exists()]
    if there and not (folder / DESCRIPTION).exists():
        raise UserError(
            f"--output {str(folder)!r} has {', '.join(there)}, which no description wrote. Choose another --output."
        )


def _write(found: Description, classes: tuple[str, ...], folder: Path) -> list[Path]:
    """Writes all files, takes away what an earlier description left, and returns what is there."""
    from ser.corpora.description.figures import NAMES as FIGURES
    from ser.corpora.description.figures import draw  # matplotlib costs half a second that most calls need not spend

    for name in (*FIGURES, FAULTS):
        (folder / name).unlink(missing_ok=True)
    text = json.dumps(found.numbers, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    found.utterances.to_csv(folder / UTTERANCES, index=False)
    paths = [folder / DESCRIPTION, folder / UTTERANCES]
    if found.faults:
        # The names stand alone, since one that holds ": " could not be told from what is wrong with it.
        lines = [f"# {' '.join(fault.split())}\n{utterance_id}\n" for utterance_id, fault in found.faults]
        (folder / FAULTS).write_text("".join(lines), encoding="utf-8")
        paths.append(folder / FAULTS)
    return paths + draw(found.utterances, classes, folder)


if __name__ == "__main__":
    sys.exit(run_command(main))
