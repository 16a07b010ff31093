"""Labels audio files with a trained checkpoint: python -m ser.predict --checkpoint results/train/state.pt FILES."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ser.audio import AudioFault, read_audio
from ser.checkpoint import Checkpoint, open_checkpoint
from ser.corpora.source_files import check_names
from ser.features.front_ends import FrontEnd
from ser.features.store import FeatureStore
from ser.noise.label_files import encoded, output_folder, to_csv, write_new
from ser.training.embeddings import extractor
from ser.utils.command_line import parse, run_command
from ser.utils.errors import DataErrors, UserError

FILES_AT_ONCE = 64
"""So many are in memory together."""


SHOWN = 3
"""Probabilities on the terminal; ``--output`` writes all."""


@dataclass(frozen=True)
class PredictOptions:
    """Predicts the class of whole audio files, each taken for one utterance."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Audio files."""
    checkpoint: Path
    """The state.pt of a run of python -m ser.train."""
    output: Path | None = None
    """CSV file of the probabilities; default none."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    return label(parse(PredictOptions))


def label(options: PredictOptions) -> int:
    """Labels audio files, prints the labels and writes the probabilities; returns the exit code.

    Args:
        options: As on the command line.

    Raises:
        UserError: The checkpoint or a file cannot be read, or the output not be written.
    """
    if not options.files:
        raise UserError("no audio files are given. Name them behind the options, or before --checkpoint.")
    check_names(options.files)
    checkpoint = open_checkpoint(options.checkpoint)
    if options.output is not None:
        output_folder(options.output.parent)
        if options.output.is_dir():
            raise UserError(f"--output {str(options.output)!r} is a folder; name a CSV file.")

    labelled: list[tuple[Path, NDArray[np.float64]]] = []
    faults: list[tuple[str, str]] = []
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        bar = progress.add_task("predicting", total=len(options.files))
        for path, found in predict_files(checkpoint, options.files):
            if isinstance(found, str):
                faults.append((str(path), found))
            else:
                labelled.append((path, found))
            progress.advance(bar)
    if labelled:
        _print(checkpoint.classes, labelled)
        if options.output is not None:
            content = encoded({options.output.name: _csv(checkpoint.classes, labelled)})
            write_new(output_folder(options.output.parent), content)
    if faults:
        advice = f"The other {len(labelled)} files are labelled." if labelled else ""
        raise DataErrors(f"{len(faults)} of {len(options.files)} files cannot be used", faults, advice)
    return 0


def predict_files(checkpoint: Checkpoint, paths: Sequence[Path]) -> Iterator[tuple[Path, NDArray[np.float64] | str]]:
    """Class probabilities of audio files, computed as for utterances of a corpus.

    Args:
        checkpoint: What predicts.
        paths: Audio files of any rate; channels are averaged.

    Yields:
        In the given order, the path with (C,) probabilities of the classes ``checkpoint.classes``, which sum to 1, or
        with what is wrong with the file.
    """
    reader = extractor(checkpoint.config)
    spec, compute = reader.front_end, reader.load()
    for begin in range(0, len(paths), FILES_AT_ONCE):
        some = paths[begin : begin + FILES_AT_ONCE]
        frames: list[NDArray[np.float32]] = []
        results: list[int | str] = []  # the row, or what is wrong
        for path in some:
            try:
                samples = read_audio(path, rate=spec.sample_rate)
            except AudioFault as fault:
                results.append(str(fault))
            else:
                results.append(len(frames))
                frames.append(compute(samples))
        if frames:
            probabilities = _predict_frames(checkpoint, spec, frames)
        for path, result in zip(some, results, strict=True):
            yield path, result if isinstance(result, str) else probabilities[result]


def predict_waveforms(checkpoint: Checkpoint, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Class probabilities of waveforms, computed as for utterances of a corpus.

    Args:
        checkpoint: What predicts.
        waveforms: At least one; each (n,) mono, full scale ±1, at the sample rate of the checkpoint's front end.

    Returns:
        (N, C) probabilities of the classes ``checkpoint.classes``; rows sum to 1.
    """
    reader = extractor(checkpoint.config)
    compute = reader.load()
    return _predict_frames(checkpoint, reader.front_end, [compute(samples) for samples in waveforms])


def _predict_frames(
    checkpoint: Checkpoint, front_end: FrontEnd, frames: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    offsets = np.cumsum([0, *map(len, frames)])
    store = FeatureStore(Path(), front_end, np.concatenate(frames), offsets, np.array([], dtype=str))
    return checkpoint.predict(store, np.arange(len(frames)))


def _print(classes: Sequence[str], labelled: Sequence[tuple[Path, NDArray[np.float64]]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("file", overflow="fold")
    table.add_column("predicted", overflow="fold", no_wrap=True)
    table.add_column(f"the {min(SHOWN, len(classes))} likeliest", overflow="fold", no_wrap=True)
    for path, line in labelled:
        likeliest = [int(index) for index in np.argsort(-line, kind="stable")[:SHOWN]]
        told = ", ".join(f"{classes[index]} {line[index]:.2f}" for index in likeliest)
        table.add_row(str(path), classes[likeliest[0]], told)
    # Neither markup nor emoji, for names may look like either.
    Console(markup=False, emoji=False, highlight=False).print(table)


def _csv(classes: Sequence[str], labelled: Sequence[tuple[Path, NDArray[np.float64]]]) -> str:
    lines = ((str(path), classes[int(line.argmax())], *(f"{value:.6f}" for value in line)) for path, line in labelled)
    return to_csv(("file", "predicted", *map("p_{}".format, classes)), lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
