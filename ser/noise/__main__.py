"""Writes noisy labels as files, or tells how noisy labels look: python -m ser.noise ravdess --root PATH …."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from ser.corpora import NAMES, Corpus, load, parse_options
from ser.noise import label_files as files
from ser.noise.corruption import NAMED_LEVELS, NAMED_RATES, corrupt
from ser.noise.manifest import NoisyLabels
from ser.noise.printing import print_estimate, print_export
from ser.splits import Fold, split
from ser.utils.command_line import parse_commands, run_command
from ser.utils.errors import UserError

if TYPE_CHECKING:  # torch, cleanlab and matplotlib take seconds; each is imported by the command that needs it
    from ser.metrics.agreement import HumanCeiling
    from ser.noise.estimate import Added, Estimate


@dataclass(frozen=True)
class ExportOptions:
    """Corrupts labels at a rate and writes the training and the test rows (python -m ser.noise NAME …)."""

    name: tyro.conf.Positional[str]
    """Corpus: synthetic, ravdess, table, … (docs/corpora.md)."""
    recipe: str
    """Noise recipe: disagreement, human, symmetric, pair, instance or matrix:FILE (docs/noise.md)."""
    rate: float
    """Share of the training rows whose label becomes wrong, 0 to 1."""
    output: Path
    """Folder for the files; nothing there is overwritten."""
    root: Path | None = None
    """The corpus's folder; for table the CSV or Parquet file."""
    fold: int | None = None
    """Which fold is the test part; default the last. All other rows are the training part."""
    seed: int = 0
    """Seed of the noise draw."""
    exclude: Path | None = None
    """File with utterances to leave out, one a line."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """The corpus's own options, such as votes=face for crema-d (docs/corpora.md)."""


@dataclass(frozen=True)
class EstimateOptions:
    """Tells how noisy a corpus's labels look, which level is nearest, and which labels look wrong."""

    name: tyro.conf.Positional[str]
    """Corpus: synthetic, ravdess, table, … (docs/corpora.md)."""
    root: Path | None = None
    """The corpus's folder; for table the CSV or Parquet file."""
    predictions: Path | None = None
    """CSV of a recogniser's out-of-sample probabilities: utterance_id and a column for each class. Default: a logistic
    regression on statistics of the log-mel, across speakers."""
    features: Path = Path("results/features")
    """Folder of the feature stores."""
    output: Path | None = None
    """Folder for suspicious.csv, estimated-transition.csv and estimate.json; default none."""
    seed: int = 0
    """Seed of the noise that is put on top to see whether the readings follow."""
    exclude: Path | None = None
    """File with utterances to leave out, one a line."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """The corpus's own options, such as votes=face for crema-d (docs/corpora.md)."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse_commands({"export": ExportOptions, "estimate": EstimateOptions}, default="export")
    console = Console(markup=False, emoji=False, highlight=False)
    if isinstance(options, EstimateOptions):
        run_estimate(options, console)
    else:
        run_export(options, console)
    return 0


def run_export(options: ExportOptions, console: Console) -> None:
    """Writes the files, and prints what is in them.

    Raises:
        UserError: A mistake in the options, faults in the corpus, or files that are there already.
    """
    if options.recipe in NAMED_LEVELS:
        example = options.recipe if options.recipe in NAMED_RATES else "noisy-A"
        raise UserError(
            f"--recipe {options.recipe!r} is a level, not a recipe. Where the corpus has votes, {example} is "
            f"--recipe disagreement --rate {NAMED_RATES[example][0]}."
        )
    corpus = _load(options)
    fold = split(corpus, options.fold)
    train = np.setdiff1d(np.arange(len(corpus)), fold.test)
    files.check_copies(corpus, {"train": train, "test": fold.test})
    noisy = corrupt(corpus, options.recipe, options.rate, options.seed, {"train": train})
    folder = files.output_folder(options.output)
    stem = files.stem(options.rate)
    content = _exported(corpus, noisy, fold, train, stem, folder)
    audio = files.synthesized(corpus)
    files.write_new(folder, audio | content)
    print_export(console, corpus, noisy, {"train": train, "test": fold.test})
    console.print(f"\nIn {options.output}:", soft_wrap=True)
    for name in content:
        console.print(f"  {name}", soft_wrap=True)
    if audio:
        console.print(f"  {files.AUDIO}/: {len(audio)} WAV files of 16 bit, since the corpus is generated")
    table = shlex.quote(str(options.output / f"{stem}-train.csv"))
    console.print(f"\nNext: python study/run.py --corpus table --corpus-root {table} --noise given", soft_wrap=True)


def run_estimate(options: EstimateOptions, console: Console) -> None:
    """Prints the readings, and writes them if asked to.

    Raises:
        UserError: A mistake in the options, faults in the corpus or the predictions, or files that are there already.
    """
    from ser.features.store import open_store
    from ser.noise import estimate as estimates

    corpus = _load(options)
    folder = None if options.output is None else files.output_folder(options.output)
    added: list[Added] = []
    if options.predictions is not None:
        given = estimates.estimate(corpus.labels, estimates.read_predictions(options.predictions, corpus))
    else:
        groups = estimates.held_out(corpus)
        terminal = Console(stderr=True)
        with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
            bar = progress.add_task("features", total=len(corpus))
            store = open_store(
                corpus, "panns_16k", options.features, progress=lambda done, _: progress.update(bar, completed=done)
            )
            statistics = progress.add_task("statistics", total=len(corpus))
            features = estimates.statistics(
                store, list(corpus.table["speaker"]), lambda done, _: progress.update(statistics, completed=done)
            )
            progress.add_task("training across speakers, three times", total=None)
            predicted = estimates.out_of_sample(features, corpus.labels, groups, len(corpus.classes))
            given = estimates.estimate(corpus.labels, predicted)
            added = list(estimates.with_added_noise(corpus, features, groups, options.seed))
    ceiling = estimates.ceiling(corpus)
    print_estimate(console, corpus, given, added, ceiling)
    if folder is not None:
        content = _estimated(corpus, given, added, ceiling)
        files.write_new(folder, content)
        console.print(f"\nIn {options.output}: {', '.join(content)}", soft_wrap=True)


def _load(options: ExportOptions | EstimateOptions) -> Corpus:
    if options.root is None and options.name in NAMES and options.name != "synthetic":
        raise UserError(f"corpus {options.name!r} needs its root: pass --root PATH.")
    return load(options.name, options.root, options.exclude, parse_options(options.corpus_options))


def _exported(
    corpus: Corpus, noisy: NoisyLabels, fold: Fold, train: NDArray[np.int64], stem: str, folder: Path
) -> dict[str, bytes]:
    from ser.noise.transition_figure import draw_transition, to_png

    manifest = {**noisy.manifest, "fold": fold.number, "folds": fold.count, "held_out": fold.unit}
    recipe = noisy.manifest["recipe"].partition(":")[0]  # without a matrix's file
    title = (
        f"{recipe} noise on {corpus.name}\n{noisy.manifest['rate_asked']:.2%} asked, "
        f"{noisy.manifest['rate_realised']:.2%} realised, n = {len(train):,}"
    )
    rates = noisy.manifest["transition_rates"]
    texts = {
        f"{stem}-train.csv": files.rows_csv(corpus, noisy, train, folder),
        f"{stem}-test.csv": files.rows_csv(corpus, noisy, fold.test, folder),
        f"{stem}-manifest.json": files.to_json(manifest),
        f"{stem}-transition.csv": files.transition_csv(corpus.classes, rates),
    }
    figure = to_png(draw_transition(corpus.classes, rates, title))
    return {**files.encoded(texts), f"{stem}-transition.png": figure}


def _estimated(
    corpus: Corpus, given: Estimate, added: Sequence[Added], ceiling: HumanCeiling | None
) -> dict[str, bytes]:
    from ser.noise.estimate import MEASURED, conclusion, known_truth, nearest_level

    ids, labels = corpus.table["utterance_id"], corpus.table["label"]
    lines = [
        (ids[row], labels[row], corpus.classes[likely], f"{score:.6f}")
        for row, likely, score in zip(given.suspicious.tolist(), given.likely.tolist(), given.score, strict=True)
    ]

    def readings(found: Estimate) -> dict[str, Any]:
        return {
            "recogniser": {"uar": found.uar, "standard_error": found.uar_error},
            "confident_learning": {"rate": found.rate, "nearest_level": nearest_level(found.rate)},
            "surest": {
                "rate": found.surest_rate,
                "standard_error": found.surest_error,
                "utterances": found.surest,
                "nearest_level": nearest_level(found.surest_rate),
            },
        }

    summary = {
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "utterances": len(corpus),
        "as_given": readings(given),
        "with_added_noise": [{"recipe": one.recipe, "rate": one.rate, **readings(one.estimate)} for one in added],
        "suspicious": len(lines),
        "truth": known_truth(corpus, given),
        "human_ceiling": None if ceiling is None else {"uar": ceiling.uar, "standard_error": ceiling.standard_error},
        "conclusion": conclusion(given, len(corpus.classes)),
        "how_far_off": MEASURED,
    }
    texts = {
        "suspicious.csv": files.to_csv(("utterance_id", "label", "likely_label", "score"), lines),
        "estimated-transition.csv": files.transition_csv(corpus.classes, given.transition),
        "estimate.json": files.to_json(summary),
    }
    return files.encoded(texts)


if __name__ == "__main__":
    sys.exit(run_command(main))
