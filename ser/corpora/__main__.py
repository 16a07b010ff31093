"""Command line to download and describe a corpus: python -m ser.corpora describe ravdess --root PATH."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import Progress

from ser.corpora import load, needs_root, parse_options
from ser.corpora.corpus import EXCLUDE_ADVICE
from ser.corpora.fetch import FetchOptions, fetch
from ser.description.printing import print_description
from ser.description.summary import Description, describe
from ser.splits import SplitBy
from ser.utils.command_line import parse_commands, run_command
from ser.utils.errors import DataErrors, UserError
from ser.utils.output_files import output_folder
from ser.utils.printing import make_console, say

DESCRIPTION, UTTERANCES, ERRORS = "describe.json", "utterances.csv", "faults.txt"


@dataclass(frozen=True)
class DescribeOptions:
    """Decode a corpus and print sizes, agreement, folds, duplicates and data errors."""

    name: tyro.conf.Positional[str]
    """Corpus: synthetic, ravdess, table, … (docs/corpora.md), or the import path of a loader."""
    root: Path | None = None
    """The corpus's folder; for table the file."""
    exclude: Path | None = None
    """File with the utterances to leave out, one per line."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """The corpus's own options, such as votes=face for crema-d (docs/corpora.md)."""
    classes: str | None = None
    """Classes to choose, merge or rename, such as angry,sad,neutral=neutral+calm; all for all of the corpus's own."""
    split_by: SplitBy = "auto"
    """Folds: leave one session out, or one speaker; auto takes sessions where there are any, else speaker groups."""
    output: Path | None = None
    """Folder for describe.json, utterances.csv, faults.txt (the data errors) and figures; default none."""


def main() -> int:
    """Run the command line and return the exit code."""
    options = parse_commands({"describe": DescribeOptions, "fetch": FetchOptions})
    if isinstance(options, FetchOptions):
        fetch(options.name, options.root)
    else:
        run_describe(options)
    return 0


def run_describe(options: DescribeOptions) -> None:
    """Print the description of a corpus; write it as well if ``output`` is given.

    Raises:
        UserError: If an option is wrong, or the output folder is not writable.
        DataErrors: If the corpus has errors. Errors of audio are raised after everything else is printed and written.
    """
    if options.root is None and needs_root(options.name):
        raise UserError(f"corpus {options.name!r} needs its root: pass --root PATH.")
    corpus = load(options.name, options.root, options.exclude, parse_options(options.corpus_options), options.classes)
    if options.output is not None:
        _check_output(output_folder(options.output))
    terminal = make_console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        bar = progress.add_task("decoding", total=len(corpus))
        found = describe(corpus, lambda done, total: progress.update(bar, completed=done), split_by=options.split_by)
    console = make_console()
    print_description(found.numbers, console)
    for note in corpus.notes:
        say(console, note)
    advice = EXCLUDE_ADVICE
    if options.output is not None:
        try:
            paths = _write(found, corpus.classes, options.output)
        except OSError as error:
            raise UserError(f"--output {str(options.output)!r} is not writable: {error.strerror or error}.") from error
        for path in paths:
            say(console, f"wrote {path}")
        listed = shlex.quote(str(options.output / ERRORS))
        advice = f"Correct the data, or leave these utterances out: pass --exclude {listed}."
    if found.errors:
        raise DataErrors(f"corpus {corpus.name!r}", found.errors, advice)


def _check_output(folder: Path) -> None:
    """Raise before minutes of decoding if the folder holds files of the same names that no description wrote."""
    from ser.description.figures import NAMES as FIGURES

    foreign = [name for name in (UTTERANCES, ERRORS, *FIGURES) if (folder / name).exists()]
    if foreign and not (folder / DESCRIPTION).exists():
        raise UserError(
            f"--output {str(folder)!r} has {', '.join(foreign)}, which no description wrote. Choose another --output."
        )


def _write(found: Description, classes: tuple[str, ...], folder: Path) -> list[Path]:
    """Write all files, remove those of an earlier description, and return what was written."""
    from ser.description.figures import NAMES as FIGURES
    from ser.description.figures import (
        draw,
    )  # Matplotlib takes half a second to import, which most calls do not need

    for name in (*FIGURES, ERRORS):
        (folder / name).unlink(missing_ok=True)
    text = json.dumps(found.numbers, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    found.utterances.to_csv(folder / UTTERANCES, index=False)
    paths = [folder / DESCRIPTION, folder / UTTERANCES]
    if found.errors:
        # Each name has a line of its own, because a name may contain ": ".
        lines = [f"# {' '.join(error.split())}\n{utterance_id}\n" for utterance_id, error in found.errors]
        (folder / ERRORS).write_text("".join(lines), encoding="utf-8")
        paths.append(folder / ERRORS)
    return paths + draw(found.utterances, classes, folder)


if __name__ == "__main__":
    sys.exit(run_command(main))
