"""Costs of a study, expected and spent, and what the design of a confirmation can show."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from ser.audio.levels import level_warnings
from ser.config import Config, complete
from ser.corpora import Corpus
from ser.features.store import FeatureStore
from ser.training.classical import train_classical
from ser.training.loop import train
from ser.training.state import State
from ser.training.task import Task
from ser.training.utterance_table import PROBABILITY, TEST
from ser.utils.errors import without_password
from ser.utils.output_files import bytes_in, size_text
from ser.utils.parallel import cores
from study.backend.gpus import smallest_memory
from study.backend.trial_resources import TrialResources, trial_resources
from study.console import say
from study.schema import FAILED, FINISHED, STOPPED, UTTERANCES, Tag
from study.search.gpu_demand import gpu_demand
from study.setup.design import Design
from study.setup.power import MEASURED, Components, components_from_pilot, power_lines
from study.setup.power import Design as PowerDesign
from study.setup.prepared_study import PreparedStudy, Search
from study.tracking.event_log import EventLog
from study.tracking.store import quoted, search_all
from study.tracking.study_runs import artifact_folders
from study.uri import SQLITE, database_file

STEPS_FEW, STEPS_MORE = 2, 6
VALIDATION_ROWS = 64
CROPS_TIMED, SAMPLE_RATE = 2, 16000


@dataclass(frozen=True)
class TrialCost:
    """Costs of one trial.

    Args:
        seconds: To train all epochs, validation included.
        weights: Bytes that a finished trial keeps.
        state: Bytes of a checkpoint while it trains; there are two.
    """

    seconds: float
    weights: float
    state: float


def show_plan(prepared: PreparedStudy, console: Console) -> int:
    """Print trials, epochs, expected hours and disk of a study that has not begun.

    Args:
        prepared: The study.
        console: Where to print.

    Returns:
        The exit code.
    """
    options, searches = prepared.options, prepared.searches
    here = {"CPU": float(cores()), "GPU": float(torch.cuda.device_count())}
    resources = trial_resources([here], options, gpu_demand(searches, options), smallest_memory())
    spaces = {search.space.own_name: search for search in searches}
    measured = {name: measure(prepared, search, resources) for name, search in spaces.items()}
    trials = [search.trials(options) for search in searches]
    seconds = sum(
        measured[search.space.own_name].seconds * count for search, count in zip(searches, trials, strict=True)
    )
    disk = sum(measured[search.space.own_name].weights * kept_networks(prepared, search) for search in searches)
    # Each trial that runs has two states, and the network of the one before may be on its way to the disk.
    busiest = max(cost.state * 2 + cost.weights * (options.keep != "none") for cost in measured.values())
    most = disk + busiest * resources.count
    total = sum(trials)
    count = f"{len(searches)} search{'es' * (len(searches) > 1)}"
    lines = [
        f"{count} × {total // len(searches)} trials × {prepared.epochs} epochs: {total} trials, "
        f"{total * prepared.epochs} epochs"
    ]
    where = "a GPU" if resources.gpus else "CPUs"
    lines += [
        f"  {name}: {_duration(cost.seconds)} a trial, measured on {where} of this machine"
        for name, cost in measured.items()
    ]
    lines.append(f"  a trial has {resources.in_words} here")
    lines.append(
        f"  {_duration(seconds / resources.count)} with {resources.count} trial{'s' * (resources.count > 1)} at a time "
        f"here, {_duration(seconds)} one by one"
    )
    if resources.count > 1:
        lines.append("  trials that run at the same time slow each other down; the measured one ran alone")
    if options.scheduler != "none":
        lines.append(f"  --scheduler {options.scheduler} can only reduce that")
    lines.append(
        f"  {size_text(disk)} of checkpoints below {options.storage_path} (--keep {options.keep or 'all'}), up to "
        f"{size_text(most)} while trials run"
    )
    for store in prepared.data.all_stores:
        built = "built now, and kept" if store.built else "there already"
        lines.append(f"  {size_text(store.size)} of features, {built}: {store.path}")
    uri = str(options.tracking_uri)
    is_new = uri.startswith(SQLITE) and not database_file(uri).exists()
    created = ", which the study will create" if is_new else ""
    lines.append(f"  records in {without_password(uri)}{created}, experiment {options.experiment}")
    if most > (free := shutil.disk_usage(options.storage_path).free):
        lines.append(f"  warning: the checkpoints do not fit: {size_text(free)} are free there")
    for line in lines:
        say(console, line)
    prepared.release()
    return 0


def measure(prepared: PreparedStudy, search: Search, resources: TrialResources) -> TrialCost:
    """Time a few steps of a space's first configuration, and some validation, and scale them up.

    Args:
        prepared: The study.
        search: One of its searches.
        resources: What a trial gets.
    """
    config, task = _first_config(prepared, search), search.task
    if config.model.is_classical:
        began = time.monotonic()
        train_classical(config, FeatureStore.open(task.store).frames, task, prepared.options.seed)
        return TrialCost(time.monotonic() - began, 0.0, 0.0)
    if _fine_tuned_on_cpus(config, resources):
        return _cost_of_fine_tuning(config, task, resources)
    device = "cuda" if resources.gpus else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(resources.cpus)))
    try:
        few, state = _time(config, task, STEPS_FEW, device)
        few = min(few, _time(config, task, STEPS_FEW, device)[0])  # the first call warms up
        more, _ = _time(config, task, STEPS_MORE, device)
    finally:
        torch.set_num_threads(threads)
    step = max(more - few, 0.0) / (STEPS_MORE - STEPS_FEW)
    per_row = max(few - STEPS_FEW * step, 0.0) / min(VALIDATION_ROWS, len(task.validation))
    steps = -(-len(task.train) // config.training.batch_size)
    seconds = config.training.epochs * (steps * step + len(task.validation) * per_row)
    return TrialCost(seconds, _bytes(state["model"]), _bytes(state["model"]) + _bytes(state["optimizer"]))


def _time(config: Config, task: Task, steps: int, device: str) -> tuple[float, State]:
    """Return the seconds of one epoch over a few batches and validation rows, and its state."""
    rows = np.arange(steps * config.training.batch_size) % len(task.train)
    small = replace(
        task,
        train=task.train.take(rows),
        validation=task.validation.take(np.arange(len(task.validation))[:VALIDATION_ROWS]),
    )
    one = replace(config, training=replace(config.training, epochs=1))
    began = time.monotonic()
    record = next(train(one, small, seed=0, device=device))
    return time.monotonic() - began, record.state


def fine_tuning_warning(prepared: PreparedStudy, resources: TrialResources) -> list[str]:
    """Return a line for people if a speech encoder is fine-tuned on CPUs, with the expected time; else none.

    Args:
        prepared: The study.
        resources: What a trial gets.
    """
    for search in prepared.searches:
        config = _first_config(prepared, search)
        if _fine_tuned_on_cpus(config, resources):
            cost = _cost_of_fine_tuning(config, search.task, resources)
            return [
                f"  warning: without a GPU, a trial that fine-tunes {config.model.name} takes about "
                f"{_duration(cost.seconds)}. With the encoder frozen, it takes seconds: the same command without "
                "model.freeze after --set"
            ]
    return []


def _fine_tuned_on_cpus(config: Config, resources: TrialResources) -> bool:
    return config.model.is_encoder and not config.model.reads_embeddings and not resources.gpus


def _cost_of_fine_tuning(config: Config, task: Task, resources: TrialResources) -> TrialCost:
    """Time two crops of random samples, since a few batches of a large encoder take minutes on CPUs."""
    network = config.model.build(len(task.classes)).train()
    crops = 0.1 * torch.randn(CROPS_TIMED, round(config.training.crop_seconds * SAMPLE_RATE), 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(resources.cpus)))
    try:
        seconds = []
        for _ in range(2):  # the first call warms up
            began = time.monotonic()
            network(crops).square().sum().backward()
            seconds.append(time.monotonic() - began)
    finally:
        torch.set_num_threads(threads)
    # A forward pass takes about a third of a step; the optimizer's state is twice the weights.
    crops_an_epoch = len(task.train) + len(task.validation) / 3
    weights = _bytes(network.state_dict())
    return TrialCost(config.training.epochs * crops_an_epoch * min(seconds) / CROPS_TIMED, weights, 3 * weights)


def _bytes(state: object) -> float:
    if isinstance(state, torch.Tensor):
        return float(state.numel() * state.element_size())
    if isinstance(state, dict):
        return sum(map(_bytes, state.values()))
    if isinstance(state, (list, tuple)):
        return sum(map(_bytes, state))
    return 0.0


def power(design: Design, corpus: Corpus, components: Components = MEASURED) -> list[str]:
    """Return what the design of a confirmation can show, in lines for people.

    Args:
        design: The design.
        corpus: Its corpus.
        components: Spreads that are assumed.
    """
    rows = [design.fold(corpus, fold.number).test for fold in design.folds]
    counts = np.array([np.bincount(corpus.labels[some], minlength=len(corpus.classes)) for some in rows])
    methods = len(design.methods) + len(design.stopped)
    if design.reference is None or methods < 2:
        return [f"Nothing is compared: {design.reference or 'the reference'} is not among the methods, or is alone."]
    return power_lines(
        PowerDesign(
            folds=len(design.folds),
            seeds=len(design.seeds),
            speakers=float(np.mean([len(fold.test) for fold in design.folds])),
            utterances=tuple(counts.mean(axis=0).tolist()),
            methods=methods,
            levels=len(design.levels),
            primary=design.primary is not None,
        ),
        components,
    )


def pilot_components(prepared: PreparedStudy) -> Components:
    """Estimate from the trainings of a pilot how much scores vary.

    Args:
        prepared: The pilot, after its trainings.

    Raises:
        UserError: Fewer than two of them have finished.
    """
    (search,) = prepared.searches
    classes = prepared.data.corpus.classes
    counts = []
    for path in sorted((prepared.folder / search.folder).glob(f"trial_*/{UTTERANCES}")):
        table = pd.read_parquet(path)
        test = table[(table["subset"] == TEST) & table["label"].notna()]
        predicted = test[[PROBABILITY + name for name in classes]].to_numpy().argmax(axis=1)
        labels = pd.Categorical(test["label"], categories=list(classes))
        right = pd.Series(predicted == labels.codes, index=test.index)
        by_cell = right.groupby([test["speaker"], labels], observed=False).agg(["sum", "size"])
        counts.append(by_cell.to_numpy(dtype=np.float64).reshape(-1, len(classes), 2))
    stacked = np.array(counts).reshape(len(counts), -1, len(classes), 2)
    return components_from_pilot(stacked[..., 0], stacked[0, ..., 1] if counts else np.ones((1, len(classes))))


def costs(prepared: PreparedStudy) -> list[str]:
    """Return what the study's trials have cost so far, in lines for people, from the records in its folder."""
    spent = {FINISHED: 0.0, STOPPED: 0.0, FAILED: 0.0}
    for search in prepared.searches:
        for folder in sorted((prepared.folder / search.folder).glob("trial_*")):
            log = EventLog(folder)
            spent[log.status or STOPPED] += log.seconds
    total = sum(spent.values())
    if not total:
        return [disk_used(prepared)]
    lost = [
        f"{_duration(spent[name])} ({spent[name] / total:.0%}) on {name} trials"
        for name in (STOPPED, FAILED)
        if spent[name]
    ]
    return [
        f"{_duration(total)} of training" + (f"; of it {' and '.join(lost)}" if lost else ""),
        disk_used(prepared),
    ]


def disk_used(prepared: PreparedStudy) -> str:
    """Return what a study takes on disk, in a line for people."""
    client, options = prepared.records.client, prepared.options
    query = f"tags.`{Tag.STUDY}` = {quoted(str(options.name))}"
    runs = search_all(client, [prepared.records.experiment], query)
    artifacts = sum(map(bytes_in, artifact_folders(client, runs).values()))
    features = sum(store.size for store in prepared.data.all_stores)
    return (
        f"{size_text(bytes_in(prepared.folder))} in {prepared.folder}, {size_text(artifacts)} of artifacts, "
        f"{size_text(features)} of features in {options.storage_path / 'features'}"
    )


def disk_warning(prepared: PreparedStudy) -> list[str]:
    """Return a line for people if the networks that a study keeps will not fit on its disk; else none."""
    needed = sum(kept_networks(prepared, search) * _network_bytes(prepared, search) for search in prepared.searches)
    needed -= bytes_in(prepared.folder)  # of trials that have ended
    free = shutil.disk_usage(prepared.options.storage_path).free
    if needed <= free:
        return []
    fewer = "" if prepared.options.keep == "none" else ", or keep fewer with --keep"
    return [
        f"  warning: the trained networks take {size_text(needed)}, and {size_text(free)} are free in "
        f"{prepared.options.storage_path}; the study will stop when the disk is full (choose another "
        f"--storage-path{fewer})"
    ]


def kept_networks(prepared: PreparedStudy, search: Search) -> int:
    """Return the number of networks of a search that stay on disk.

    Args:
        prepared: The study.
        search: One of its searches.
    """
    return {"all": search.trials(prepared.options), "best": 1, "none": 0}[prepared.options.keep or "all"]


def level_lines(prepared: PreparedStudy) -> list[str]:
    """Return warnings about utterances whose level differs from the others by more than speech does."""
    data = prepared.data
    return [
        f"warning: {line}" for line in level_warnings(data.corpus.table["utterance_id"].tolist(), data.store.levels)
    ]


def _network_bytes(prepared: PreparedStudy, search: Search) -> int:
    """Return the bytes of the weights that a trial of a space's first configuration keeps, without training it."""
    model = _first_config(prepared, search).model
    if model.is_classical:
        return 0
    with torch.device("meta"):
        network = model.build(num_classes=len(prepared.data.corpus.classes))
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def _first_config(prepared: PreparedStudy, search: Search) -> Config:
    """Return the first planned configuration of a search, or an example of its space."""
    values = search.planned[0].configuration if search.planned else next(iter(search.space.examples()))
    return Config.from_dotted(complete(prepared.options.defaults, values))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
