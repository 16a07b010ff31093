"""Labels audio files with what a trial has trained: python study/predict.py --run RUN_ID FILES."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from ser.predict import PredictOptions, label
from ser.utils.command_line import parse
from study.tracking.trained_runs import find_trained
from study.uri import chosen_uri


@dataclass(frozen=True)
class PredictRunOptions:
    """Predict the class of whole audio files with the network of an MLflow run; add nothing to the run."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Audio files; a Parquet or Arrow file of a dataset stands for all audio in it."""
    run: str
    """MLflow run of a trial."""
    output: Path | None = None
    """CSV file of the probabilities; default none."""
    tracking_uri: str | None = None
    """MLflow tracking URI; default MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""


def main() -> int:
    """Run the command line; return the exit code."""
    options = parse(PredictRunOptions)
    trained = find_trained(options.run, chosen_uri(options.tracking_uri))
    return label(PredictOptions(files=options.files, checkpoint=trained.checkpoint, output=options.output))
