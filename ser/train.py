"""Training of one configuration, without Ray or MLflow: python -m ser.train --corpus ravdess --corpus-root PATH."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from ser.audio.levels import level_warnings
from ser.config import REVISION, Config, ModelConfig, corpus_defaults, model_defaults, parse_settings
from ser.config_file import config_text, read_config, settings_as_options
from ser.corpora import Corpus, load, parse_options
from ser.features.opening import open_with_progress
from ser.fold_classes import check_classes, class_lines
from ser.labels import CONSENSUS, LabelKind, check_labels
from ser.labels.training_labels import labels_line
from ser.metrics.absent_classes import over_classes
from ser.model_config import present_revision, with_absolute_folder
from ser.models.encoders import is_encoder
from ser.models.initial_weights import FOLDER as WEIGHTS
from ser.models.initial_weights import PRETRAINED, InitialWeights, name_or_path
from ser.noise import check_level
from ser.splits import Fold, SplitBy, Validation, check_disjoint, fold_begun, split
from ser.training.device.arithmetic import Arithmetic, Device, emulation_warning, resolve_arithmetic, together
from ser.training.embeddings import device_of, extractor, own_device
from ser.training.loop import DivergedError, EpochRecord, train
from ser.training.setup import check_labels_fit, check_weights
from ser.training.state import ARITHMETIC, State, check_state, load_state, save_state
from ser.training.task import Task, make_task
from ser.utils.command_line import parse, run_command
from ser.utils.command_names import command_line
from ser.utils.errors import UserError
from ser.utils.printing import make_console, say

SHOWN = ("train/loss", "train/labels_changed", "train/memorised", "val/uar", "val/wa", "val/ece", "val_noisy/uar")
STATE, HISTORY, CONFIGURATION, MANIFEST = "state.pt", "history.jsonl", "config.yaml", "noise_manifest.json"
UTTERANCES = "utterances.parquet"


@dataclass(frozen=True)
class TrainOptions:
    """Train one configuration; write its history, configuration, noise manifest, last state and per-utterance table."""

    corpus: str = "synthetic"
    """Name of the corpus (docs/corpora.md)."""
    corpus_root: Path | None = None
    """Folder of the corpus; for table the file."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Options of the corpus, such as votes=face for crema-d (docs/corpora.md)."""
    classes: str | None = None
    """Classes to choose, merge or rename, such as angry,sad,neutral=neutral+calm; all for all of the corpus's own."""
    noise: str = "clean"
    """Noise level: clean, noisy-A, noisy-B, given, or RECIPE:RATE."""
    labels: LabelKind = "consensus"
    """Labels to train on: the corpus's, or of its votes: plurality, dawid_skene or soft (docs/labels.md)."""
    pretrained: str | None = None
    """Initial weights: cnn14_16k, cnn14, cnn10 or cnn6, downloaded where they are not there yet, or a file."""
    config: Path | None = None
    """YAML or JSON file with configuration keys, nested or dotted."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="KEY=VALUE ...")] = ()
    """Configuration keys; they override those of the file."""
    split_by: SplitBy = "auto"
    """Folds: leave one session out or leave one speaker out; auto uses sessions, else groups of speakers."""
    fold: int | None = None
    """Number of the fold that is held out; default the last."""
    validation: Validation = "held-out"
    """Validation rows: held-out (other speakers than in training) or random (a fifth of the rows; leaks speakers)."""
    exclude: Path | None = None
    """File with utterances to leave out, one per line."""
    seed: int = 0
    """Seed of the noise and the training."""
    output: Path = Path("results/train")
    """Output folder."""
    features: Path = Path("results/features")
    """Folder of the feature stores; downloaded weights are in the folder weights next to it."""
    resume: bool = False
    """Resume from the state in the output folder."""


def main() -> int:
    """Run the command line and return the exit code: 0 done, 1 diverged."""
    options = parse(TrainOptions, {**settings_as_options(), "space": "--set loss.name="})
    check_level(options.noise)
    check_labels(options.labels, options.noise)
    config = _configuration(options)
    check_labels_fit(config, options.labels)
    arithmetic = resolve_arithmetic(config, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    corpus = load(
        options.corpus, options.corpus_root, options.exclude, parse_options(options.corpus_options), options.classes
    )
    # All is checked before features are computed, which may take minutes.
    state = _start(options)
    fold = _fold(options, config, corpus, state)
    console = make_console()
    if state is None:
        if (weights := _weights(options)) is not None:
            weights.obtain(console)
            say(console, weights.in_words(config.model.name, _given(options)))
        check_weights(config.model)

    device = own_device() if state is None else device_of(state["front_end"])
    store = open_with_progress(corpus, extractor(config, device), options.features, console)
    check_disjoint(corpus, fold, store.content)
    task = make_task(corpus, fold, store.path, options.noise, options.seed, labels=options.labels)
    if state is None:
        _begin(options, config, task.manifest)
    of_votes = "" if options.labels == CONSENSUS else f" ({labels_line(task.manifest)})"
    say(
        console,
        f"{config.loss.name} on {corpus.name} {options.noise}{of_votes}, fold {fold.number} of {fold.count}: "
        f"{len(task.train)} train, {len(task.validation)} validation utterances; {arithmetic.name}; {options.output}",
    )
    for note in (*corpus.notes, *class_lines(corpus, fold)):
        say(console, note)
    levels = level_warnings(corpus.table["utterance_id"].tolist(), store.levels)
    for line in (fold.warning, *levels, emulation_warning(arithmetic), _resumed_elsewhere(state, arithmetic)):
        if line:
            say(console, f"warning: {line}")
    return _train(options, config, task, state, arithmetic.device, console)


def _resumed_elsewhere(state: State | None, arithmetic: Arithmetic) -> str:
    """Return a warning if a run resumes in another arithmetic than that of its last epoch; else an empty string."""
    before = (state or {}).get(ARITHMETIC, arithmetic.name)
    if together(before, arithmetic.name) == before:
        return ""
    return f"the run was computed in {before} so far, and resumes in {arithmetic.name}, which gives other numbers."


def _fold(options: TrainOptions, config: Config, corpus: Corpus, state: State | None) -> Fold:
    """Return the fold that is held out, checked with its labels; that of the run if a run is resumed."""

    def check(fold: Fold) -> None:
        task = make_task(corpus, fold, Path(), options.noise, options.seed, labels=options.labels)
        if state is not None:
            check_state(state, config, options.seed, task, state["front_end"])

    if state is not None:
        return fold_begun(corpus, options.fold, options.split_by, options.validation, check)
    fold = split(corpus, options.fold, options.split_by, options.validation)
    check_classes(corpus, fold, options.split_by, options.validation)
    check(fold)
    return fold


def _configuration(options: TrainOptions) -> Config:
    """Return the defaults of the corpus, of the model and of the initial weights, overridden by file and settings."""
    given, weights = _given(options), _weights(options)
    name = str(given.get("model.name") or (weights and weights.model) or ModelConfig.name)
    values = {**corpus_defaults(options.corpus), **model_defaults(name), "model.name": name}
    if weights is not None:
        if PRETRAINED in parse_settings(options.settings):
            raise UserError(f"{PRETRAINED} is set both by --pretrained and by --set. Leave one of them out.")
        values |= weights.defaults(name)
        given[PRETRAINED] = str(weights.path)
        weights.check({**values, **given})
    if is_encoder(name):  # the run records where it is, and its version
        given["model.name"] = with_absolute_folder(name)
        given[REVISION] = present_revision(name, str(given.get(REVISION, "")))
    config = Config.from_dotted({**values, **given})
    if config.model.is_classical:
        raise UserError(
            f"model.name is {config.model.name}, a classical model, but this command trains networks only. Train "
            f"classical models in a study: {command_line('study/run.py')} --space classical."
        )
    return config


def _given(options: TrainOptions) -> dict[str, Any]:
    """Return the configuration keys of the file and of the settings, which override those of the file."""
    return {**(read_config(options.config) if options.config else {}), **parse_settings(options.settings)}


def _weights(options: TrainOptions) -> InitialWeights | None:
    """Return the weights that ``--pretrained`` names; None without it."""
    if options.pretrained is None:
        return None
    return InitialWeights(name_or_path(options.pretrained), options.features.absolute().parent / WEIGHTS)


def _train(
    options: TrainOptions, config: Config, task: Task, state: State | None, device: Device, console: Console
) -> int:
    """Train, write and print each epoch; return the exit code."""
    began, absent = time.monotonic(), task.absent
    try:
        for record in train(config, task, seed=options.seed, state=state, device=device):
            _write(record, options.output)
            scores = [
                f"{name} {record.metrics[name]:.3f} {over_classes(absent, len(task.classes), name)}".rstrip()
                for name in SHOWN
                if name in record.metrics
            ]
            say(console, f"{record.epoch:>3}  {time.monotonic() - began:6.1f} s  {'  '.join(scores)}")
    except DivergedError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def _start(options: TrainOptions) -> State | None:
    """Return the state to resume from, or None for a new run; raise if its output folder holds another run."""
    if options.resume:
        return load_state(options.output / STATE)
    if there := [
        name for name in (STATE, HISTORY, CONFIGURATION, MANIFEST, UTTERANCES) if (options.output / name).exists()
    ]:
        raise UserError(
            f"--output {str(options.output)!r} already contains a run ({', '.join(there)}). Resume it with "
            "--resume, or choose another folder."
        )
    return None


def _begin(options: TrainOptions, config: Config, manifest: dict[str, Any]) -> None:
    """Write configuration and noise manifest of a new run."""
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        dotted = config_text(config.to_dotted())
        (options.output / CONFIGURATION).write_text(dotted, encoding="utf-8")
        (options.output / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        (options.output / HISTORY).write_text("", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"--output {str(options.output)!r} is not writable: {error.strerror}. Choose another folder."
        ) from error


def _write(record: EpochRecord, folder: Path) -> None:
    """Append the epoch to the history, then save the state; lines of epochs after the last state are replaced."""
    history = folder / HISTORY
    lines = history.read_text(encoding="utf-8").splitlines()[: record.epoch - 1]
    lines.append(json.dumps({"epoch": record.epoch, "step": record.step, **record.metrics}))
    history.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if record.utterances is not None:
        record.utterances.to_parquet(folder / UTTERANCES, index=False)
    save_state(record.state, folder / STATE)


if __name__ == "__main__":
    sys.exit(run_command(main))
