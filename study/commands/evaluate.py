"""The command ``python study/evaluate.py``: score the network of a trial; its MLflow run is not changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ser.evaluate import EVERYTHING, EvaluateOptions, evaluate
from ser.utils.command_line import parse
from ser.utils.errors import UserError
from study.schema import DESIGN
from study.setup.design import Design
from study.setup.resolve import data_name
from study.tracking.trained_runs import find_trained
from study.uri import chosen_uri


@dataclass(frozen=True)
class EvaluateRunOptions:
    """Score the network of an MLflow run on a subset of its fold or on another corpus; add nothing to the run."""

    run: str
    """MLflow run of a trial."""
    subset: Annotated[Literal["validation", "test"], tyro.conf.arg(aliases=["--part"])] = "validation"
    """Subset to predict; test for the final comparison only. Of another corpus it is all utterances."""
    corpus: str | None = None
    """Another corpus than the study's, to score on the classes that both have."""
    corpus_root: Path | None = None
    """Folder of that corpus; without --corpus that of the study's, where it has been moved."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Options of that corpus."""
    classes: str | None = None
    """Classes of that corpus to choose, merge or rename, such as happy=joy+excitement."""
    exclude: Path | None = None
    """File with utterances of that corpus to leave out, one per line."""
    output: Path | None = None
    """Folder for what is written; default results/evaluation/RUN-SUBSET, or RUN-CORPUS of another corpus."""
    tracking_uri: str | None = None
    """MLflow tracking URI; default MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""


def main() -> int:
    """Run the command line; return the exit code."""
    options = parse(EvaluateRunOptions)
    if options.corpus is None and (options.corpus_options or options.classes or options.exclude):
        raise UserError(
            "--corpus-options, --classes and --exclude are those of the study. Leave them out, or name another corpus: "
            "--corpus NAME"
        )
    trained = find_trained(options.run, chosen_uri(options.tracking_uri))
    study, folder = trained.study, Path("results") / "evaluation"
    if options.corpus is not None:
        data = data_name(options.corpus, options.corpus_root)
        return evaluate(
            EvaluateOptions(
                checkpoint=trained.checkpoint,
                subset=EVERYTHING,
                corpus=options.corpus,
                corpus_root=options.corpus_root,
                corpus_options=options.corpus_options,
                classes=options.classes,
                exclude=options.exclude,
                output=options.output or folder / f"{options.run}-{data}",
                features=trained.features,
            )
        )
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
            output=options.output or folder / f"{options.run}-{options.subset}",
            features=trained.features,
        ),
        None if design is None else lambda corpus: design.fold(corpus, trained.fold),
    )
