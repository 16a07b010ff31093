"""Labels audio files with what a trial has trained: python study/predict.py --run RUN_ID FILES."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    # Run as a script: imports begin at the repository's root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import tyro

from ser.command_line import parse, run_command
from ser.predict import PredictOptions, label
from study.tracking import DEFAULT_URI
from study.trained import find_trained


@dataclass(frozen=True)
class PredictRunOptions:
    """Predicts the class of whole audio files by the network of an MLflow run; adds nothing to the run."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Audio files."""
    run: str
    """MLflow run of a trial."""
    output: Path | None = None
    """CSV file of the probabilities; default none."""
    tracking_uri: str = DEFAULT_URI
    """MLflow tracking URI."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(PredictRunOptions)
    trained = find_trained(options.run, options.tracking_uri)
    return label(PredictOptions(files=options.files, checkpoint=trained.checkpoint, output=options.output))


if __name__ == "__main__":
    sys.exit(run_command(main))
