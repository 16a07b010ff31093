"""Everything that can go wrong before a trial starts, checked in order of cost, and what the trials then need."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ser.corpora import NAMES, Corpus, load, parse_options
from ser.features.front_ends import Extractor
from ser.features.store import FeatureStore, open_store
from ser.losses import LOSSES
from ser.noise import MATRIX, check_level, level_name
from ser.splits import Fold, check_disjoint, split
from ser.training.loop import check_weights, training_targets
from ser.training.task import Task, make_task
from ser.utils.errors import UserError, unknown_name
from ser.utils.hashing import digest, file_digest
from study.backend.cluster import connect
from study.options import RECORD, StudyOptions
from study.schema import SELECTIONS, Selection, Tag
from study.setup.spaces import Space, load_space
from study.tracking.store import SQLITE, absolute_uri, check_database, experiment_id, find_run, open_client
from study.trial.event_log import Outbox
from study.trial.trainable import Planned

MODELS_SHOWN = 4


@dataclass(frozen=True)
class Job:
    """The search of one space at one noise level.

    Args:
        space: What is searched.
        searched: Its searched names.
        level: Noise level, by its name for records.
        task: Train and validation data at that level.
        planned: What its trials are, in a confirmation; a search draws them.
    """

    space: Space
    searched: tuple[str, ...]
    level: str
    task: Task
    planned: tuple[Planned, ...] = ()

    def trials(self, options: StudyOptions) -> int:
        """How many trials there are to be."""
        return len(self.planned) or options.planned_trials

    @property
    def title(self) -> str:
        """Space and noise level, for people."""
        return f"{self.space.name} {self.level}"

    @property
    def folder(self) -> str:
        """Space and noise level, as a folder's name."""
        return f"{self.space.name}--{self.level.replace(':', '-')}"


@dataclass(frozen=True)
class Preparation:
    """A study that can start.

    Args:
        options: As asked, paths made absolute, name and experiment filled in.
        folder: The study's own folder.
        base: Dotted names that trials have unless their space says otherwise.
        corpus: Less what was excluded.
        data: Digest of the corpus and of the levels' own files.
        split: The fold.
        models: What is trained, for people.
        store: The open feature store of the first space.
        store_seconds: How long opening or building those of all spaces took.
        jobs: What is searched, in order.
        selection: How configurations are chosen.
        client: The MLflow store.
        experiment: MLflow experiment id.
        protocol: Digest of all that must agree for two trials to be comparable, besides the noise level.
        epochs: Planned epochs of a trial.
        session: Differs each time that the study is started.
        lock: Held as long as the study runs.
    """

    options: StudyOptions
    folder: Path
    base: Mapping[str, Any]
    corpus: Corpus
    data: str
    split: Fold
    models: str
    store: FeatureStore
    store_seconds: float
    jobs: tuple[Job, ...]
    selection: Selection
    client: MlflowClient
    experiment: str
    protocol: str
    epochs: int
    session: str
    lock: FileLock


def prepare(asked: StudyOptions, console: Console) -> Preparation:
    """Checks the whole study and builds the feature store.

    Args:
        asked: The options.
        console: Where progress is shown.

    Raises:
        UserError: Anything that would make a trial fail.
    """
    if asked.corpus not in NAMES:
        raise unknown_name("corpus", asked.corpus, NAMES)
    options = _absolute(asked)
    options = options.resumed(study_folder(options)) if options.resume else _named(options)
    base, pinned = options.base, options.pinned
    plain = options.plain
    pretrained = plain.model.pretrained
    for level in options.noise:
        check_level(level)
    spaces = [load_space(name, pinned) for name in options.space]
    names = [space.name for space in spaces]
    if len(set(names)) < len(names):
        raise UserError(f"two of the spaces have the same name: {', '.join(names)}.")
    searched = [space.check(base) for space in spaces]
    check_weights(plain.model)
    extractors = [space.extractor(base) for space in spaces]
    check_gpus(options)

    corpus = load(options.corpus, options.corpus_root, options.exclude, parse_options(options.corpus_options))
    fold = split(corpus, options.fold, options.split_by, options.validation)
    selection = SELECTIONS[options.select_on]
    # The levels are tried before anything is written: a rate that no labels give must not cost minutes.
    for level in options.noise:
        task = make_task(corpus, fold, Path(), level, options.seed)
        _check_selection(task, selection, level)
        _check_targets(task, spaces)
    data = digest([corpus.digest, *map(level_name, options.noise)])
    folder = study_folder(options)
    lock = claim_folder(folder, options)
    if options.resume:
        options.check_unchanged(folder, data)
    client = _open_records(options)
    experiment = experiment_id(client, options.tracking_uri, str(options.experiment))
    if not options.resume and find_run(client, experiment, {Tag.STUDY: str(options.name)}) is not None:
        raise UserError(
            f"experiment {options.experiment!r} holds runs of a study named {options.name!r} already, whose folder is "
            f"not below {str(options.storage_path)!r}. Choose another --name."
        )

    began = time.monotonic()
    folder_of_stores = options.storage_path / "features"
    front_ends = [extractor.front_end.name for extractor in extractors]
    stores = {
        name: build_store(corpus, extractor, folder_of_stores, console)
        for name, extractor in dict(zip(front_ends, extractors, strict=True)).items()
    }
    seconds = time.monotonic() - began
    store = stores[front_ends[0]]
    check_disjoint(corpus, fold, store.content)
    tasks = {
        (level, name): make_task(corpus, fold, opened.path, level, options.seed)
        for level in options.noise
        for name, opened in stores.items()
    }
    return Preparation(
        options=options,
        folder=folder,
        base=base,
        corpus=corpus,
        data=data,
        split=fold,
        models=_models(spaces, base),
        store=store,
        store_seconds=seconds,
        jobs=tuple(
            Job(space, keys, level_name(level), tasks[level, front_end])
            for level in options.noise
            for space, keys, front_end in zip(spaces, searched, front_ends, strict=True)
        ),
        selection=selection,
        client=client,
        experiment=experiment,
        protocol=digest(
            [
                corpus.digest,
                fold.unit,
                fold.number,
                options.validation,
                options.seed,
                {**plain.to_dotted(), **pinned, "model.pretrained": pretrained and file_digest(Path(pretrained))},
                plain.model.features,
                options.select_on,
            ]
        ),
        epochs=plain.training.epochs,
        session=uuid.uuid4().hex,
        lock=lock,
    )


def _open_records(options: StudyOptions) -> MlflowClient:
    """Opens the MLflow store and starts Ray; a new SQLite database takes as long to make, and is made beside it."""
    uri = options.tracking_uri
    if options.plan:
        return open_client(uri)
    if not uri.startswith(SQLITE):
        client = open_client(uri)
        connect(options)
        return client
    check_database(uri)
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(open_client, uri)
        connect(options)
    return opened.result()


def build_store(corpus: Corpus, extractor: Extractor, folder: Path, console: Console) -> FeatureStore:
    """Opens the corpus's feature store for an extractor; builds it with a progress bar if it is not there."""
    columns = (
        TextColumn("features"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("utterances"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("features", total=len(corpus), visible=False)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=True)

        return open_store(corpus, extractor, folder, progress=advance)


def check_gpus(options: StudyOptions) -> None:
    """Raises where GPUs are asked for on a machine without; a cluster's are counted once it has been joined."""
    if options.gpus_per_trial and options.address is None and not torch.cuda.is_available():
        raise UserError(
            f"--gpus-per-trial {options.gpus_per_trial:g}: torch sees no GPU on this machine. Leave the option out to "
            "train on CPUs, or join a cluster with --address."
        )


def _models(spaces: Sequence[Space], base: Mapping[str, Any]) -> str:
    """What the spaces' trials train."""
    found = dict.fromkeys(
        config.model.title + ("" if config.model.is_classical else f", batch {config.training.batch_size}")
        for space in spaces
        for config in space.configurations(base)
    )
    more = len(found) - MODELS_SHOWN
    return "; ".join(list(found)[:MODELS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _check_selection(task: Task, selection: Selection, level: str) -> None:
    if selection.name == "clean" and (task.validation.truth < 0).any():
        raise UserError(f"--select-on clean: at noise level {level!r} the true validation labels are not known.")
    if selection.name == "soft" and task.validation.soft is None:
        raise UserError("--select-on soft: the corpus has no annotators' votes.")


def _check_targets(task: Task, spaces: Sequence[Space]) -> None:
    for space in spaces:
        for name in space.loss_names():
            try:
                training_targets(LOSSES[name], task.train)
            except UserError as error:
                raise UserError(f"space {space.name!r}: {error}") from error


def _absolute(options: StudyOptions) -> StudyOptions:
    def absolute(path: Path) -> Path:
        try:
            return path.expanduser().absolute()
        except RuntimeError as error:
            raise UserError(f"{str(path)!r}: {error}") from error

    return replace(
        options,
        noise=tuple(_absolute_level(level, absolute) for level in options.noise),
        space=tuple(str(absolute(Path(name))) if name.endswith(".py") else name for name in options.space),
        tracking_uri=absolute_uri(options.tracking_uri),
        corpus_root=None if options.corpus_root is None else absolute(options.corpus_root),
        exclude=None if options.exclude is None else absolute(options.exclude),
        storage_path=absolute(options.storage_path),
        settings=tuple(_absolute_setting(setting, absolute) for setting in options.settings),
    )


def _absolute_level(level: str, absolute: Callable[[Path], Path]) -> str:
    recipe, _, rate = level.rpartition(":")
    if not recipe.startswith(MATRIX):
        return level
    return f"{MATRIX}{absolute(Path(recipe.removeprefix(MATRIX)))}:{rate}"


def _absolute_setting(setting: str, absolute: Callable[[Path], Path]) -> str:
    """Trials run in another folder than the study."""
    key, _, value = setting.partition("=")
    return f"{key}={absolute(Path(value))}" if key == "model.pretrained" and value else setting


def _named(options: StudyOptions) -> StudyOptions:
    return replace(
        options,
        experiment=options.experiment or options.corpus,
        name=options.name or f"{options.corpus}-{datetime.now().strftime('%Y%m%d-%H%M%S')}",
    )


def study_folder(options: StudyOptions) -> Path:
    """The folder of a study's state."""
    return options.storage_path / "studies" / str(options.name)


def claim_folder(folder: Path, options: StudyOptions) -> FileLock:
    """Makes the study's folder and holds it against a second process."""
    if (folder / RECORD).exists() and not options.resume:
        ended = [outbox for path in folder.glob("*/trial_*") if (outbox := Outbox(path)).status is not None]
        begun = len(list(folder.glob("*/trial_*")))
        raise UserError(
            f"a study named {options.name!r} is there already ({str(folder)!r}: {len(ended)} of {begun} trials begun "
            f"have ended). Go on with it, or extend it by --trials: --resume --name {options.name}. Or start another "
            "one under another --name."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", blocking=False)
        lock.acquire()
    except Timeout:
        raise UserError(f"study {options.name!r} is running already, in another process.") from None
    except OSError as error:
        raise UserError(f"--storage-path {str(options.storage_path)!r} is not writable: {error.strerror}.") from error
    return lock
