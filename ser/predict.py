"""Predictions for audio files: python -m ser.predict --checkpoint results/train/state.pt FILES."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.progress import Progress

from ser.audio import AudioFault, embedded, read_audio
from ser.audio.levels import level_warnings, measure
from ser.checkpoint import Checkpoint, open_checkpoint
from ser.corpora.source_files import check_names
from ser.corpora.tables.datasets import read_dataset_file
from ser.features.front_ends import FrontEnd
from ser.features.store import FeatureStore
from ser.utils.command_line import parse, run_command
from ser.utils.errors import DataErrors, UserError
from ser.utils.output_files import encoded, output_folder, to_csv, write_new
from ser.utils.printing import make_console, print_table, say

FILES_AT_ONCE = 64
"""Number of files that are in memory at the same time."""

SHOWN = 3
"""Number of probabilities on the terminal, at most; ``--output`` writes all."""


@dataclass(frozen=True)
class PredictOptions:
    """Predict the class of audio files; each file is one utterance."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Audio files; a Parquet or Arrow file of a dataset stands for all audio in it."""
    checkpoint: Path
    """File state.pt of a run of python -m ser.train."""
    output: Path | None = None
    """CSV file for the probabilities; default none."""


def main() -> int:
    """Run the command line and return the exit code."""
    return label(parse(PredictOptions))


def label(options: PredictOptions) -> int:
    """Predict audio files, print the predictions, write the probabilities, and return the exit code.

    Args:
        options: Options of the command line.

    Raises:
        UserError: The checkpoint or an audio file cannot be read, or the output cannot be written.
    """
    if not options.files:
        raise UserError("no audio files are given; at least one is expected. Name them after the options.")
    check_names(options.files)
    files = [audio for file in options.files for audio in _audio_of(file)]
    checkpoint = open_checkpoint(options.checkpoint)
    if options.output is not None:
        output_folder(options.output.parent)
        if options.output.is_dir():
            raise UserError(f"--output {str(options.output)!r} is a folder, and a file is expected. Name a CSV file.")

    labelled: list[tuple[Path, NDArray[np.float64]]] = []
    faults: list[tuple[str, str]] = []
    terminal = make_console(stderr=True)
    for line in checkpoint.warnings(checkpoint.reader.front_end):
        say(terminal, line)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        bar = progress.add_task("predicting", total=len(files))
        levels: list[tuple[float, float]] = []
        for path, found in predict_files(checkpoint, files, levels):
            if isinstance(found, str):
                faults.append((str(path), found))
            else:
                labelled.append((path, found))
            progress.advance(bar)
    if labelled:
        _print(checkpoint.classes, labelled)
        for line in level_warnings([str(path) for path, _ in labelled], np.array(levels)):
            say(terminal, f"warning: {line}")
        if options.output is not None:
            content = encoded({options.output.name: _csv(checkpoint.classes, labelled)})
            write_new(output_folder(options.output.parent), content)
    if faults:
        done = f"Predicted: {len(labelled)}. " if labelled else ""
        raise DataErrors(
            f"{len(faults)} of {len(files)} audio files cannot be used",
            faults,
            f"{done}Correct these files, or leave them out.",
        )
    return 0


def _audio_of(file: Path) -> list[Path]:
    """Return the places of all audio in a file of a dataset; another file is itself.

    Raises:
        UserError: If the file cannot be read, or has no audio.
    """
    if file.suffix.lower() not in embedded.SUFFIXES or not file.is_file():
        return [file]
    rows = read_dataset_file(file, "")
    if not rows.audio or "path" not in rows.frame:
        raise UserError(f"dataset file {str(file)!r} has no audio, but {', '.join(rows.frame.columns)}.")
    return [Path(path) for path in rows.frame["path"]]


def predict_files(
    checkpoint: Checkpoint, paths: Sequence[Path], levels: list[tuple[float, float]] | None = None
) -> Iterator[tuple[Path, NDArray[np.float64] | str]]:
    """Predict class probabilities of audio files, in the same way as for utterances of a corpus.

    Args:
        checkpoint: Trained model.
        paths: Audio files of any sample rate and number of channels, or cells (``ser.audio.embedded``).
        levels: List to which level and peak (``ser.audio.levels.measure``) of each file that can be used are added.

    Yields:
        In the given order, the path with (C,) probabilities of ``checkpoint.classes``, which sum to 1, or with the
        reason why the file cannot be used.
    """
    spec, compute = checkpoint.reader.front_end, checkpoint.compute
    for begin in range(0, len(paths), FILES_AT_ONCE):
        some = paths[begin : begin + FILES_AT_ONCE]
        frames: list[NDArray[np.float32]] = []
        results: list[int | str] = []  # the row, or the reason why there is none
        for path in some:
            try:
                samples = read_audio(path, rate=spec.sample_rate)
            except AudioFault as fault:
                results.append(str(fault))
            else:
                results.append(len(frames))
                frames.append(compute(samples))
                if levels is not None:
                    levels.append(measure(samples))
        if frames:
            probabilities = _predict_frames(checkpoint, spec, frames)
        for path, result in zip(some, results, strict=True):
            yield path, result if isinstance(result, str) else probabilities[result]


def predict_waveforms(checkpoint: Checkpoint, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Predict class probabilities of waveforms, in the same way as for utterances of a corpus.

    Args:
        checkpoint: Trained model, from ``ser.checkpoint.open_checkpoint``.
        waveforms: At least one waveform, each (n,) mono, full scale ±1, at the sample rate of the model's front end.

    Returns:
        (N, C) probabilities of ``checkpoint.classes``; rows sum to 1.

    Example:
        An untrained network stands in for the result of ``open_checkpoint``.

        >>> import torch
        >>> from ser.config import Config
        >>> config = Config.from_dotted({"model.width": 0.03})
        >>> model, cpu = config.model.build(num_classes=2).eval(), torch.device("cpu")
        >>> checkpoint = Checkpoint(Path("state.pt"), config, {"classes": ("high", "low")}, 0, 1, model, cpu, "")
        >>> predict_waveforms(checkpoint, [np.zeros(16000, np.float32)]).shape
        (1, 2)
    """
    frames = [checkpoint.compute(samples) for samples in waveforms]
    return _predict_frames(checkpoint, checkpoint.reader.front_end, frames)


def _predict_frames(
    checkpoint: Checkpoint, front_end: FrontEnd, frames: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    offsets = np.cumsum([0, *map(len, frames)])
    store = FeatureStore(Path(), front_end, np.concatenate(frames), offsets, np.array([], dtype=str))
    return checkpoint.predict(store, np.arange(len(frames)))


def _print(classes: Sequence[str], labelled: Sequence[tuple[Path, NDArray[np.float64]]]) -> None:
    rows = []
    for path, line in labelled:
        first, *others = (int(index) for index in np.argsort(-line, kind="stable")[:SHOWN])
        shown = [f"{classes[index]} {line[index]:.2f}" for index in others]
        rows.append([str(path), classes[first], f"{line[first]:.2f}", *shown])
    columns = ["file", "predicted", "probability", "second", "third"][: len(rows[0])]
    print_table(make_console(), columns, rows, numbers=["probability"])


def _csv(classes: Sequence[str], labelled: Sequence[tuple[Path, NDArray[np.float64]]]) -> str:
    lines = ((str(path), classes[int(line.argmax())], *(f"{value:.6f}" for value in line)) for path, line in labelled)
    return to_csv(("file", "predicted", *map("p_{}".format, classes)), lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
