"""The command ``python study/evaluate.py``: score the network of a trial; its MLflow run is not changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ser.evaluate import EvaluateOptions, evaluate
from ser.utils.command_line import parse
from study.schema import DESIGN
from study.setup.design import Design
from study.tracking.trained_runs import find_trained
from study.uri import chosen_uri


@dataclass(frozen=True)
class EvaluateRunOptions:
    """Score the network of an MLflow run on the validation or the test subset of its fold; add nothing to the run."""

    run: str
    """MLflow run of a trial."""
    subset: Annotated[Literal["validation", "test"], tyro.conf.arg(aliases=["--part"])] = "validation"
    """Subset to predict. Use the test subset for the final comparison only."""
    corpus_root: Path | None = None
    """The corpus's folder, where it is not that of the study any more."""
    output: Path | None = None
    """Folder for what is written; default results/evaluation/RUN-PART."""
    tracking_uri: str | None = None
    """MLflow tracking URI; default MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""


def main() -> int:
    """Run the command line; return the exit code."""
    options = parse(EvaluateRunOptions)
    trained = find_trained(options.run, chosen_uri(options.tracking_uri))
    study = trained.study
    design = Design.read(study.folder) if (study.folder / DESIGN).exists() else None
    return evaluate(
        EvaluateOptions(
            checkpoint=trained.checkpoint,
            subset=options.subset,
            corpus=study.corpus,
            corpus_root=options.corpus_root or study.corpus_root,
            corpus_options=study.corpus_options,
            classes=study.classes,
            split_by=study.split_by,
            fold=study.fold,
            validation=study.validation,
            exclude=study.exclude,
            output=options.output or Path("results") / "evaluation" / f"{options.run}-{options.subset}",
            features=trained.features,
        ),
        None if design is None else lambda corpus: design.fold(corpus, trained.fold),
    )
