"""Command that writes noisy labels as files, or estimates label noise: python -m ser.noise ravdess --root PATH …."""

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

from ser.corpora import Corpus, load, needs_root, parse_options
from ser.noise import label_files
from ser.noise.corruption import NAMED_LEVELS, NAMED_RATES, corrupt
from ser.noise.manifest import NoisyLabels
from ser.noise.printing import print_estimate, print_export
from ser.splits import Fold, split
from ser.utils.command_line import parse_commands, run_command
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, shown
from ser.utils.output_files import encoded, output_folder, to_csv, to_json, write_new
from ser.utils.printing import make_console, say

if TYPE_CHECKING:  # torch, cleanlab and matplotlib take seconds to import; each command imports what it needs
    from ser.metrics.agreement import HumanCeiling
    from ser.noise.estimate import AddedNoise, Estimate


@dataclass(frozen=True)
class ExportOptions:
    """Corrupt labels at a rate and write the training and the test rows (python -m ser.noise NAME …)."""

    name: tyro.conf.Positional[str]
    """Corpus: synthetic, ravdess, table, … (docs/corpora.md)."""
    recipe: str
    """Noise recipe: disagreement, human, symmetric, pair or matrix:FILE (docs/noise.md)."""
    rate: float
    """Share of the training rows that get a wrong label, 0 to 1."""
    output: Path
    """Folder for the files; existing files are not overwritten."""
    root: Path | None = None
    """Folder of the corpus; for table the file."""
    fold: int | None = None
    """Fold of the test rows, default the last. All other rows are training rows."""
    seed: int = 0
    """Seed of the noise draw."""
    exclude: Path | None = None
    """File with the utterances to exclude, one per line."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Options of the corpus, such as votes=face for crema-d (docs/corpora.md)."""
    classes: str | None = None
    """Classes to choose, merge or rename, such as angry,sad,neutral=neutral+calm; all for all of the corpus's own."""


@dataclass(frozen=True)
class EstimateOptions:
    """Estimate the label noise of a corpus, the nearest noise level, and the labels that look wrong."""

    name: tyro.conf.Positional[str]
    """Corpus: synthetic, ravdess, table, … (docs/corpora.md)."""
    root: Path | None = None
    """Folder of the corpus; for table the file."""
    predictions: Path | None = None
    """CSV file of out-of-sample probabilities: utterance_id and one column per class. Default: those of a logistic
    regression on log-mel statistics, trained on other speakers."""
    features: Path = Path("results/features")
    """Folder of the feature stores."""
    output: Path | None = None
    """Folder for suspicious.csv, estimated-transition.csv and estimate.json. Default: no files."""
    seed: int = 0
    """Seed of the noise that is added to check whether the estimates increase with it."""
    exclude: Path | None = None
    """File with the utterances to exclude, one per line."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Options of the corpus, such as votes=face for crema-d (docs/corpora.md)."""
    classes: str | None = None
    """Classes to choose, merge or rename, such as angry,sad,neutral=neutral+calm; all for all of the corpus's own."""


def main() -> int:
    """Run the command line and return the exit code."""
    options = parse_commands({"export": ExportOptions, "estimate": EstimateOptions}, default="export")
    console = make_console()
    if isinstance(options, EstimateOptions):
        run_estimate(options, console)
    else:
        run_export(options, console)
    return 0


def run_export(options: ExportOptions, console: Console) -> None:
    """Write the files and print a summary of them.

    Args:
        options: Options of the command line.
        console: Console for the summary.

    Raises:
        UserError: If the options are wrong, the corpus has errors, or other files are in the folder already.
    """
    if options.recipe in NAMED_LEVELS:
        example = options.recipe if options.recipe in NAMED_RATES else "noisy-A"
        raise UserError(
            f"--recipe {shown(options.recipe)} is a level, expected a recipe. For a corpus with votes, write "
            f"{example} as --recipe disagreement --rate {NAMED_RATES[example][0]}."
        )
    corpus = _load(options)
    fold = split(corpus, options.fold)
    train = np.setdiff1d(np.arange(len(corpus)), fold.test)
    subsets = {"train": train, "test": fold.test}
    label_files.check_copies(corpus, subsets)
    noisy = corrupt(corpus, options.recipe, options.rate, options.seed, {"train": train})
    folder = output_folder(options.output)
    stem = label_files.stem(options.rate)
    content = _exported(corpus, noisy, fold, train, stem, folder)
    audio = label_files.synthesized(corpus)
    write_new(folder, audio | content)
    print_export(console, corpus, noisy, subsets)
    say(console, f"\nIn {options.output}:")
    for name in content:
        say(console, f"  {name}")
    if audio:
        say(console, f"  {label_files.AUDIO}/: {len(audio)} 16-bit WAV files, because the corpus is synthesised")
    table = shlex.quote(str(options.output / f"{stem}-train.csv"))
    study = command_line("study/run.py")
    say(console, f"\nNext: {study} --corpus table --corpus-root {table} --noise given")


def run_estimate(options: EstimateOptions, console: Console) -> None:
    """Print the estimates, and write them if ``--output`` is given.

    Args:
        options: Options of the command line.
        console: Console for the estimates.

    Raises:
        UserError: If the options are wrong, the corpus or the predictions have errors, or other files are in the folder
            already.
    """
    from ser.noise import estimate as estimates

    corpus = _load(options)
    folder = None if options.output is None else output_folder(options.output)
    added: list[AddedNoise] = []
    if options.predictions is not None:
        given = estimates.estimate(corpus.labels, estimates.read_predictions(options.predictions, corpus))
    else:
        given, added = _estimate_by_training(corpus, options)
    ceiling = estimates.ceiling(corpus)
    print_estimate(console, corpus, given, added, ceiling)
    if folder is not None:
        content = _estimated(corpus, given, added, ceiling)
        write_new(folder, content)
        say(console, f"\nIn {options.output}: {', '.join(content)}")


def _estimate_by_training(corpus: Corpus, options: EstimateOptions) -> tuple[Estimate, list[AddedNoise]]:
    """Train recognisers on the labels as given, and again with added noise."""
    from ser.features.front_ends import named_extractor
    from ser.features.opening import open_with_progress
    from ser.noise import estimate as estimates

    groups = estimates.speaker_groups(corpus)
    terminal = make_console(stderr=True)
    store = open_with_progress(corpus, named_extractor("panns_16k"), options.features, terminal)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        statistics = progress.add_task("statistics", total=len(corpus))
        features = estimates.statistics(
            store, list(corpus.table["speaker"]), lambda done, _: progress.update(statistics, completed=done)
        )
        progress.add_task("training across speakers, three times", total=None)
        predicted = estimates.out_of_sample(features, corpus.labels, groups, len(corpus.classes))
        given = estimates.estimate(corpus.labels, predicted)
        return given, list(estimates.with_added_noise(corpus, features, groups, options.seed))


def _load(options: ExportOptions | EstimateOptions) -> Corpus:
    if options.root is None and needs_root(options.name):
        raise UserError(f"corpus {options.name!r} needs its root: pass --root PATH.")
    return load(options.name, options.root, options.exclude, parse_options(options.corpus_options), options.classes)


def _exported(
    corpus: Corpus, noisy: NoisyLabels, fold: Fold, train: NDArray[np.int64], stem: str, folder: Path
) -> dict[str, bytes]:
    from ser.noise.transition_figure import draw_transition, to_png

    manifest = {**noisy.manifest, "fold": fold.number, "folds": fold.count, "held_out": fold.unit}
    recipe = noisy.manifest["recipe"].partition(":")[0]  # without a matrix's file
    title = (
        f"{recipe} noise on {corpus.name}\n{noisy.manifest['rate_asked']:.2%} requested, "
        f"{noisy.manifest['rate_realised']:.2%} realised, n = {len(train):,}"
    )
    rates = noisy.manifest["transition_rates"]
    texts = {
        f"{stem}-train.csv": label_files.rows_csv(corpus, noisy, train, folder),
        f"{stem}-test.csv": label_files.rows_csv(corpus, noisy, fold.test, folder),
        f"{stem}-manifest.json": to_json(manifest),
        f"{stem}-transition.csv": label_files.transition_csv(corpus.classes, rates),
    }
    figure = to_png(draw_transition(corpus.classes, rates, title))
    return {**encoded(texts), f"{stem}-transition.png": figure}


def _estimated(
    corpus: Corpus, given: Estimate, added: Sequence[AddedNoise], ceiling: HumanCeiling | None
) -> dict[str, bytes]:
    from ser.noise.estimate import ACCURACY, conclusion, known_truth, nearest_level

    ids, labels = corpus.table["utterance_id"], corpus.table["label"]
    lines = [
        (ids[row], labels[row], corpus.classes[likely], f"{score:.6f}")
        for row, likely, score in zip(given.suspicious.tolist(), given.likely.tolist(), given.score, strict=True)
    ]

    def values(found: Estimate) -> dict[str, Any]:
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
        "as_given": values(given),
        "with_added_noise": [{"recipe": one.recipe, "rate": one.rate, **values(one.estimate)} for one in added],
        "suspicious": len(lines),
        "truth": known_truth(corpus, given),
        "human_ceiling": None if ceiling is None else {"uar": ceiling.uar, "standard_error": ceiling.standard_error},
        "conclusion": conclusion(given, len(corpus.classes)),
        "how_far_off": ACCURACY,
    }
    texts = {
        "suspicious.csv": to_csv(("utterance_id", "label", "likely_label", "score"), lines),
        "estimated-transition.csv": label_files.transition_csv(corpus.classes, given.transition),
        "estimate.json": to_json(summary),
    }
    return encoded(texts)


if __name__ == "__main__":
    sys.exit(run_command(main))
