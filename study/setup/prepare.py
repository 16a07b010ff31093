"""From options to a study that can start: every mistake is found here, in order of cost, before any trial runs.

``prepare`` reads as the steps do: resolve the options, load spaces and data, claim the study's folder, open the
records, open the feature stores, plan the searches.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from rich.console import Console

from ser.corpora import Corpus, load, parse_options
from ser.features.front_ends import Extractor
from ser.features.opening import open_with_progress
from ser.features.store import FeatureStore
from ser.fold_classes import check_classes
from ser.labels import CONSENSUS, DAWID_SKENE, LabelKind
from ser.labels.judgements import votes_digest
from ser.labels.kinds import CLEAN
from ser.losses.registry import loss_class
from ser.model_config import ModelConfig
from ser.models.encoders import PREFIX
from ser.models.initial_weights import weights_digest
from ser.noise import level_name
from ser.splits import FORMER_AUTO, Fold, check_disjoint, rows_digest, split
from ser.training.device.arithmetic import Device, has_tf32, no_tf32
from ser.training.embeddings import device_of_stores, own_device
from ser.training.setup import check_labels_fit, check_weights, training_targets
from ser.training.task import Task, make_task
from ser.utils.errors import UserError
from ser.utils.hashing import digest
from study.console import say
from study.options import FEATURES, RECORD, SPACES, WEIGHTS_DIGEST, StudyOptions, read_record
from study.schema import KIND, SELECTIONS, TRIAL, TRUE_LABELS, VOTES, Tag
from study.setup.prepared_study import PreparedStudy, RecordStore, Search, StudyData, release, search_folder
from study.setup.resolve import check_pretrained, resolve
from study.setup.spaces import Space, load_space
from study.tracking.event_log import begun_at
from study.tracking.opening import experiment_id, open_client, open_for_plan
from study.tracking.store import find_run, quoted, search_all
from study.trial.specification import trial_folder

MODELS_SHOWN = 4


def prepare(asked: StudyOptions, console: Console) -> PreparedStudy:
    """Check a whole study, open its records and its feature stores.

    Args:
        asked: The options as given.
        console: Where progress is shown.

    Returns:
        The study, ready to start; its folder is locked.

    Raises:
        UserError: Anything that would make a trial fail.
    """
    options = resolve(asked)
    spaces = load_spaces(options)
    check_gpus(options, spaces)
    corpus = load(
        options.corpus, options.corpus_root, options.exclude, parse_options(options.corpus_options), options.classes
    )
    fold = split(corpus, options.fold, options.split_by, options.validation)
    if not options.resume:
        check_classes(corpus, fold, options.split_by, options.validation)
    check_levels(options, corpus, fold, spaces)
    obtain_weights(options, spaces, options if options.resume else None, console)
    data_digest = digest([corpus.digest, *map(level_name, options.noise), *votes_read(options, corpus)])
    with claimed_folder(options) as lock:
        if options.resume:
            options.check_unchanged(data_digest)
        records = open_records(options)
        began = time.monotonic()
        device = embeddings_device(options)
        extractors = (space.extractor(options.defaults, device) for space in spaces)
        stores = open_stores(corpus, extractors, options, console)
        data = StudyData(corpus, fold, data_digest, stores, time.monotonic() - began)
        options.check_audio(data.audio_digest)
        check_disjoint(corpus, fold, data.store.content)
        return PreparedStudy(
            options=options,
            data=data,
            records=records,
            searches=_plan_searches(options, data, spaces),
            protocol=protocol(
                options, corpus, fold.unit, fold.number, options.seed, fold_digest(options, corpus, fold)
            ),
            lock=lock,
            models=_models(spaces, options.defaults),
        )


def load_spaces(options: StudyOptions, *, ranges: bool = True, methods: Collection[str] | None = None) -> list[Space]:
    """Load the search spaces, once for each kind of labels, and check every configuration that they can suggest.

    Args:
        options: The study's options.
        ranges: Whether the ranges are used, and not the points alone; those used must be as a resumed study has them.
        methods: Names of spaces with their labels, if not every space is trained on every kind.

    Raises:
        UserError: A space, one of its configurations, its labels or the pretrained weights cannot be used, or a space
            has changed.
    """
    check_pretrained(options)
    spaces = [load_space(name, options.fixed) for name in options.space]
    names = [space.name for space in spaces]
    if len(set(names)) < len(names):
        raise UserError(f"two of the spaces have the same name: {', '.join(names)}. Rename one of the files.")
    if options.resume:
        recorded = read_record(options.folder).get(SPACES, {})
        began, otherwise = f"study {options.name!r} began", "start a new study under another --name"
        widen = options.widen if ranges else None
        spaces = [
            space.began_as(recorded.get(space.name), began, otherwise, widen=widen, ranges=ranges) for space in spaces
        ]
    for space in spaces:
        space.check(options.defaults)
        _check_encoders(space, options.defaults)
    if options.plan or options.initial_weights is None or not options.initial_weights.download_in_words:
        _check_networks(options, spaces)  # else once they are downloaded
    found = [space.with_labels(kind) for kind in options.labels for space in spaces]
    found = [space for space in found if methods is None or space.name in methods]
    for space in found:
        _check_labels(space, options.defaults)
    return found


def _check_encoders(space: Space, defaults: Mapping[str, Any]) -> None:
    """Raise if a space names a speech encoder of its own, whose version the study would not record."""
    for config in space.configurations(defaults):
        if config.model.is_encoder and not config.model.encoder.revision:
            raise UserError(
                f"space {space.own_name!r}: its model.name is {config.model.name}, a speech encoder. Leave it out of "
                f"the space and name it with --model {config.model.name}; other encoders take a study each."
            )


def _check_networks(options: StudyOptions, spaces: Iterable[Space]) -> None:
    """Raise if the initial weights do not fit the network, or the front end of a space is not one or not available."""
    check_weights(options.shared.model)
    for space in spaces:
        space.extractor(options.defaults)


def obtain_weights(
    options: StudyOptions, spaces: Iterable[Space], began: StudyOptions | None, console: Console
) -> None:
    """Download the initial weights if they are not there, and check that they are those of an earlier study.

    Args:
        options: The study's options.
        spaces: Its spaces.
        began: Options of the study that is resumed, or whose search is confirmed; None for a study of its own.
        console: Where progress and the defaults of ``--pretrained`` are printed.

    Raises:
        UserError: The weights cannot be downloaded, do not fit, or are not those of the earlier study.
    """
    weights = options.initial_weights
    if weights is not None:
        download = weights.download_in_words
        if options.plan and download:
            say(console, f"weights   the study begins with a download, and this plan does without: {download}")
        else:
            weights.obtain(console)
            if download:
                _check_networks(options, spaces)
        say(console, weights.in_words(options.network, options.fixed))
    file = options.shared.model.pretrained
    if file and began and read_record(began.folder).get(WEIGHTS_DIGEST) not in (None, weights_digest(Path(file))):
        raise UserError(
            f"weights {file!r} are not those with which study {began.name!r} began: the file has another content. "
            "Restore it, or start a new study under another --name."
        )


def _check_labels(space: Space, defaults: Mapping[str, Any]) -> None:
    """Raise if a configuration of a space cannot train on its kind of labels."""
    for config in space.configurations(defaults):
        try:
            check_labels_fit(config, space.labels)
        except UserError as error:
            raise UserError(f"space {space.own_name!r}: {error}") from error


def check_gpus(options: StudyOptions, spaces: Iterable[Space]) -> None:
    """Check that this machine has the GPUs that trials need; those of a cluster are known once it is joined.

    Args:
        options: The study's options.
        spaces: Its spaces.

    Raises:
        UserError: GPUs are asked for, and there is none; or TF32, and trials run on CPUs or on a GPU without it.
    """
    asked, here = options.gpus_per_trial, options.address is None
    if asked and here and not torch.cuda.is_available():
        raise UserError(
            f"--gpus-per-trial {asked:g}: torch sees no GPU on this machine. Leave the option out to train on CPUs, or "
            "join a cluster with --address."
        )
    for config in (config for space in spaces for config in space.configurations(options.defaults)):
        model = config.model
        if config.training.precision != "tf32" or model.is_classical:
            continue
        if asked == 0 or (model.reads_embeddings and not asked) or (here and not torch.cuda.is_available()):
            raise no_tf32("trials run on CPUs")
        if here and not has_tf32("cuda"):
            raise no_tf32(f"this machine's {torch.cuda.get_device_name()} lacks it")


def check_levels(options: StudyOptions, corpus: Corpus, fold: Fold, spaces: Sequence[Space]) -> None:
    """Corrupt the labels at every level, before minutes are spent on features.

    Args:
        options: The study's options.
        corpus: Its corpus.
        fold: One of its folds.
        spaces: Its spaces.

    Raises:
        UserError: A rate cannot be reached, or the corpus lacks what a loss or the selection rule needs.
    """
    rule = SELECTIONS[options.select_on]
    for level in options.noise:
        task = make_task(corpus, fold, Path(), level, options.seed)
        for kind in options.labels:
            if kind != CONSENSUS and level == CLEAN:
                make_task(corpus, fold, Path(), level, options.seed, labels=kind)
        if rule.needs == TRUE_LABELS and (task.validation.truth < 0).any():
            raise UserError(
                f"--select-on {rule.name}: at noise level {level!r} the true validation labels are not known. "
                "Select on noisy labels."
            )
        if rule.needs == VOTES and task.validation.soft is None:
            raise UserError(
                f"--select-on {rule.name}: the corpus has no annotators' votes. Select on noisy or clean labels."
            )
        for space in spaces:
            for name in space.loss_names():
                try:
                    training_targets(loss_class(name), task.train)
                except UserError as error:
                    raise UserError(f"space {space.name!r}: {error}") from error


def votes_read(options: StudyOptions, corpus: Corpus) -> list[str]:
    """Return the digest of the individual votes, if a kind of labels is made from them."""
    return [votes_digest(corpus)] if DAWID_SKENE in options.labels else []


@contextmanager
def claimed_folder(options: StudyOptions) -> Iterator[FileLock]:
    """Make the study's folder and lock it, and remove it again if what follows fails before the study has begun.

    Raises:
        UserError: A study of that name is there, or runs in another process, or the folder is not writable.
    """
    lock = _claim_folder(options)
    try:
        yield lock
    except BaseException:
        release(options.folder, lock)
        raise


def _claim_folder(options: StudyOptions) -> FileLock:
    """Make the study's folder and lock it against a second process.

    Raises:
        UserError: A study of that name is there, or runs in another process, or the folder is not writable.
    """
    folder = options.folder
    if (folder / RECORD).exists() and not options.resume:
        trials = len(list(folder.glob("*/trial_*")))
        raise UserError(
            f"a study named {options.name!r} exists already ({str(folder)!r}: {trials} trials begun). Resume it, or "
            f"extend it by --trials: --resume --name {options.name}. Or start another one under another --name."
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


def open_records(options: StudyOptions) -> RecordStore:
    """Open the MLflow store and the experiment of a study or a confirmation; a plan creates neither.

    Args:
        options: Its options.

    Raises:
        UserError: The store cannot be opened, or runs of that name there are not those of the study's folder.
    """
    uri, name = str(options.tracking_uri), str(options.experiment)
    client = open_for_plan(uri, name) if options.plan else open_client(uri)
    experiment = experiment_id(client, uri, name)
    if not options.resume and find_run(client, experiment, {Tag.STUDY: str(options.name)}) is not None:
        raise UserError(
            f"experiment {options.experiment!r} already holds runs of a study named {options.name!r}, whose folder is "
            f"not below {str(options.storage_path)!r}. Choose another --name."
        )
    if options.resume:
        _check_own_runs(options, client, experiment)
    return RecordStore(client, experiment)


def _check_own_runs(options: StudyOptions, client: MlflowClient, experiment: str) -> None:
    """Raise if a trial on record under the study's name is not one of its folder, with which it would be mixed."""
    query = f"tags.`{Tag.STUDY}` = {quoted(str(options.name))} and tags.`{KIND}` = '{TRIAL}'"
    for run in search_all(client, [experiment], query):
        tags = run.data.tags
        if not {Tag.TRIAL, Tag.SPACE, Tag.NOISE} <= tags.keys():
            continue  # not a study's
        trial = f"trial {tags[Tag.TRIAL]} of {tags[Tag.SPACE]} at {tags[Tag.NOISE]}"
        folder = options.folder / search_folder(tags[Tag.SPACE], tags[Tag.NOISE])
        folder = trial_folder(folder, int(tags[Tag.TRIAL]))
        elsewhere = Path(tags.get(Tag.FOLDER, folder))
        if elsewhere.is_dir() and not (folder.is_dir() and elsewhere.samefile(folder)):
            raise UserError(
                f"study {options.name!r} has runs in experiment {options.experiment!r} that belong to another folder, "
                f"which is still there ({str(elsewhere)!r}). Rename {str(options.folder)!r} and resume it under its "
                "new name, or move the other one away."
            )
        if begun_at(folder) != run.info.start_time:
            raise UserError(
                f"experiment {options.experiment!r} holds runs of another study named {options.name!r}: {trial} began "
                f"at another time than in {str(options.folder)!r}, or not at all there. Rename that folder and resume "
                "it under its new name, or name another --experiment or --tracking-uri."
            )


def embeddings_device(options: StudyOptions) -> Device:
    """Return the kind of device that computes the embeddings of a study.

    That is the GPU of this machine, if it has one, unless ``--gpus-per-trial`` is 0. A study that is resumed keeps the
    embeddings that it began with, wherever it is resumed.

    Args:
        options: The study's options.
    """
    if options.resume:
        return device_of_stores(read_record(options.folder).get(FEATURES, ()))
    return "cpu" if options.gpus_per_trial == 0 else own_device()


def open_stores(
    corpus: Corpus, extractors: Iterable[Extractor], options: StudyOptions, console: Console
) -> dict[str, FeatureStore]:
    """Open the feature stores of a corpus, and build those that are not there.

    Args:
        corpus: Whose audio.
        extractors: What computes the features; equal front ends share a store.
        options: The study's options.
        console: Where progress is shown.

    Returns:
        The stores by the name of their front end, in order.
    """
    by_name = {extractor.front_end.name: extractor for extractor in extractors}
    folder = options.storage_path / "features"
    return {name: open_with_progress(corpus, found, folder, console) for name, found in by_name.items()}


def _plan_searches(options: StudyOptions, data: StudyData, spaces: Sequence[Space]) -> tuple[Search, ...]:
    """Return one search for each level and space; spaces that read the same front end share a task."""
    device = embeddings_device(options)
    front_ends = [space.extractor(options.defaults, device).front_end.name for space in spaces]
    tasks: dict[tuple[str, LabelKind, str], Task] = {
        (level, kind, name): make_task(data.corpus, data.fold, store.path, level, options.seed, labels=kind)
        for level in options.noise
        for kind in options.labels
        for name, store in data.stores.items()
    }
    return tuple(
        Search(space, space.check(options.defaults), level_name(level), tasks[level, space.labels, front_end])
        for level in options.noise
        for space, front_end in zip(spaces, front_ends, strict=True)
    )


def fold_digest(options: StudyOptions, corpus: Corpus, fold: Fold) -> str:
    """Return a digest of the rows of a fold; empty if version 0.1 had it too, so that its trials stay comparable.

    Args:
        options: The study's options.
        corpus: Its corpus.
        fold: The fold that it holds out.
    """
    former = FORMER_AUTO if options.split_by == "auto" else options.split_by
    try:
        same = rows_digest(corpus, split(corpus, options.fold, former, options.validation))
    except UserError:  # version 0.1 had no such fold
        same = ""
    found = rows_digest(corpus, fold)
    return "" if found == same else found


def protocol(options: StudyOptions, corpus: Corpus, unit: str, fold: int, seed: int, rows: str = "") -> str:
    """Return the digest of all that must agree for two trials to be comparable, besides the noise level.

    Args:
        options: The study's options.
        corpus: Its corpus.
        unit: What its fold holds out.
        fold: Number of its fold.
        seed: Its seed.
        rows: Digest of the rows of its fold; empty for folds that number and unit identify.
    """
    shared = options.shared
    weights = shared.model.pretrained and weights_digest(Path(shared.model.pretrained))
    configuration = {**shared.to_dotted(), **options.fixed, "model.pretrained": weights}
    del configuration["training.deterministic"]  # changes rounding alone, as another GPU does
    return digest(
        [
            corpus.digest,
            unit,
            fold,
            options.validation,
            seed,
            {**configuration, **_without_folder(shared.model)},
            shared.model.features,
            options.select_on,
            *filter(None, [rows]),
            *(["embeddings on cuda"] if shared.model.reads_embeddings and embeddings_device(options) == "cuda" else []),
        ]
    )


def _without_folder(model: ModelConfig) -> dict[str, str]:
    """Return ``model.name`` without the place of a speech encoder's folder, whose content ``model.revision`` names."""
    folder = Path(model.name.removeprefix(PREFIX))
    return {"model.name": f"{PREFIX}{folder.name}"} if model.is_encoder and folder.is_absolute() else {}


def _models(spaces: Sequence[Space], defaults: Mapping[str, Any]) -> str:
    """Return what the spaces' trials train, for people."""
    found = dict.fromkeys(
        config.model.title + ("" if config.model.is_classical else f", batch {config.training.batch_size}")
        for space in spaces
        for config in space.configurations(defaults)
    )
    more = len(found) - MODELS_SHOWN
    return "; ".join(list(found)[:MODELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
