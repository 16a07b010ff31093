"""Trained runs: finds the folder, study and newest checkpoint of a trial by its MLflow run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ser.config import Config, corpus_defaults, model_defaults, parse_value
from ser.corpora import Corpus, load, parse_options
from ser.labels import CONSENSUS
from ser.models.classical import CLASSICAL
from ser.noise import level_name
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, first_line, without_password
from study.options import RECORD, StudyOptions
from study.schema import FINISHED, KIND, SEARCH, STOPPED, TRIAL, Tag, status_of
from study.tracking.opening import open_existing
from study.trial.checkpoints import epoch_of, newest_checkpoint
from study.trial.ended import read_ended


@dataclass(frozen=True)
class Trained:
    """The trained network of a trial.

    Args:
        checkpoint: File of the newest whole checkpoint.
        study: Options of the study.
        features: Folder of the study's feature stores.
        fold: Number of the fold that it was trained on.
    """

    checkpoint: Path
    study: StudyOptions
    features: Path
    fold: int


@dataclass(frozen=True)
class TrialFolder:
    """The folder of a trial on this machine, and its study.

    Args:
        path: Folder of the trial.
        study: Options of the study.
        features: Folder of the study's feature stores.
        fold: Number of the fold that it was trained on.
        tags: Tags of its run.
        params: Its configuration by dotted name, as its run has it.
    """

    path: Path
    study: StudyOptions
    features: Path
    fold: int
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    def load_corpus(self) -> Corpus:
        """Load the corpus of the study.

        Raises:
            UserError: The corpus is not on this machine, or not readable.
        """
        study = self.study
        return load(study.corpus, study.corpus_root, study.exclude, parse_options(study.corpus_options), study.classes)


def find_trained(run_id: str, tracking_uri: str) -> Trained:
    """Find the trained network of a run; writes nothing.

    Args:
        run_id: MLflow id of a trial's run.
        tracking_uri: Absolute MLflow tracking URI.

    Raises:
        UserError: There is no such run, it is no trial's, or the trial has no checkpoint on this machine.
    """
    client = open_existing(tracking_uri)
    return newest_of(run_id, find_trial(run_id, client, without_password(tracking_uri)))


def find_trial(run_id: str, client: MlflowClient, where: str) -> TrialFolder:
    """Find the folder of a trial; writes nothing.

    Args:
        run_id: MLflow id of a trial's run.
        client: Client of the MLflow store.
        where: URI of the store for messages, without a password.

    Raises:
        UserError: There is no such run, it is no trial's, or its folder is not on this machine.
    """
    try:
        data = client.get_run(run_id).data
    except MlflowException as error:
        raise UserError(
            f"there is no run {run_id!r} in {where} ({first_line(error)}). Check the id and --tracking-uri."
        ) from None
    tags = data.tags
    if tags.get(KIND) != TRIAL or Tag.FOLDER not in tags:
        raise UserError(
            f"run {run_id!r} in {where} is not a trial. Give the id of a child run, such as those in best_runs.csv."
        )
    folder = Path(tags[Tag.FOLDER])
    study = folder.parents[1]
    if not (study / RECORD).is_file():
        raise UserError(
            f"run {run_id!r} was trained in {str(folder)!r}, which does not exist here. Run the command where the "
            "study ran, or where its --storage-path is mounted under the same path. If the study was moved, resume it "
            "where it is now, even if it has ended: that corrects the records."
        )
    storage = study.parents[1]
    options = StudyOptions(name=study.name, storage_path=storage, resume=True).resumed()
    return TrialFolder(folder, options, storage / "features", int(tags[Tag.FOLD]), dict(tags), dict(data.params))


def newest_of(run_id: str, trial: TrialFolder) -> Trained:
    """Return the newest trained network of a trial.

    Args:
        run_id: MLflow id of its run, for messages.
        trial: Folder from ``find_trial``.

    Raises:
        UserError: The trial has no whole checkpoint, or has ended without its network.
    """
    checkpoint, torn = newest_checkpoint(trial.path)
    ended, study = read_ended(trial.path), trial.study
    if checkpoint is not None and (ended is None or epoch_of(checkpoint) >= ended.epoch):
        return Trained(checkpoint, study, trial.features, trial.fold)
    if ended is not None and ended.keeps:
        raise UserError(
            f"the network of run {run_id!r} is not whole: it is being written now, or its process was killed before it "
            f"was. If study {study.name!r} does not run, resume it: it trains again what it keeps."
        )
    if status_of(trial.tags, "") in (FINISHED, STOPPED):
        raise UserError(_without_network(run_id, trial, bool(torn)))
    raise UserError(
        f"run {run_id!r} has no {'whole ' if torn else ''}checkpoint in {str(trial.path)!r}. Choose another run, "
        "or resume the study."
    )


def _without_network(run_id: str, trial: TrialFolder, torn: bool) -> str:
    """Return why a trial that has ended has no network, and what gives one."""
    study, name = trial.study, trial.params.get("model.name", "")
    if name in CLASSICAL:
        return f"run {run_id!r} has trained {name}, a classical model, which has no network. Choose another run."
    keep = "" if study.keep == "all" else f"; study {study.name!r} has --keep {study.keep}"
    why = "its file is damaged" if torn else f"it was not kept, or was removed{keep}"
    about = f"the network of run {run_id!r} is not in {str(trial.path)!r}: {why}."
    if trial.tags.get(Tag.STAGE) != SEARCH:
        return f"{about} Repeat the confirmation under another --name, with --keep all."
    best = ", such as the best of its search" if study.keep == "best" else ""
    return f"{about} Choose another run{best}, or train this one again:\n  {training_command(run_id, trial)}"


def training_command(run_id: str, trial: TrialFolder) -> str:
    """Return the command that trains the network of a search's trial alone, with the same data, labels and seed.

    Args:
        run_id: MLflow id of its run, after which the output folder is named.
        trial: Folder from ``find_trial``.
    """
    study, params = trial.study, trial.params
    default = StudyOptions()
    level = next(one for one in study.noise if level_name(one) == trial.tags[Tag.NOISE])
    words = ["--corpus", study.corpus, "--noise", level]
    words += ["--labels", kind] if (kind := trial.tags.get(Tag.LABELS, CONSENSUS)) != CONSENSUS else []
    for option in ("corpus_root", "corpus_options", "classes", "split_by", "validation", "exclude"):
        value = getattr(study, option)
        if value != getattr(default, option):
            words += [f"--{option.replace('_', '-')}", *(value if isinstance(value, tuple) else [str(value)])]
    words += ["--fold", str(trial.fold), "--seed", str(study.seed), "--features", str(trial.features)]
    usual = {**Config().to_dotted(), **corpus_defaults(study.corpus), **model_defaults(params["model.name"])}
    settings = [
        f"{key}={text}"
        for key, text in params.items()
        if key == "model.name" or key.startswith("loss.") or key not in usual or parse_value(text) != usual[key]
    ]
    words += ["--output", f"results/train/{run_id}", "--set", *settings]
    return f"{command_line('ser.train')} {shlex.join(words)}"
