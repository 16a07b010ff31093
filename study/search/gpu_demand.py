"""What the trials of a study take of GPUs, found before Ray has counted any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ser.config import Config
from ser.features.store import FeatureStore
from ser.training.device.gpu_memory import memory_needed
from study.backend.trial_resources import NARROW_WIDTH, GpuDemand
from study.options import StudyOptions
from study.setup.prepared_study import Search


def gpu_demand(searches: Sequence[Search], options: StudyOptions) -> GpuDemand:
    """Return what the trials of a study take of GPUs; all get what the neediest of them takes.

    Args:
        searches: Its searches.
        options: Its options.
    """
    needed = [search for search in searches if needs_gpu(search, options)]
    trials = max((search.trials(options) for search in needed), default=1)
    return GpuDemand(bool(needed), _memory(needed, options) if needed else None, trials)


def needs_gpu(search: Search, options: StudyOptions) -> bool:
    """Return whether a trial of a search takes a GPU.

    Classical models cannot use one. Heads on stored embeddings gain nothing from one, and take it only if asked to.

    Args:
        search: The search.
        options: The study's options.
    """
    asked = bool(options.gpus_per_trial)
    models = [config.model for config in configurations(search, options.defaults)]
    return not all(model.is_classical or (model.reads_embeddings and not asked) for model in models)


def _memory(searches: Iterable[Search], options: StudyOptions) -> int | None:
    """Return the memory of the neediest trial; None if one of them takes a whole GPU."""
    if options.gpus_per_trial is not None:
        return None  # the share is given
    largest = 0
    for search in searches:
        configs = [config for config in configurations(search, options.defaults) if not config.model.is_classical]
        if any(config.model.width > NARROW_WIDTH for config in configs):
            return None
        store, classes = FeatureStore.open(search.task.store), len(search.task.classes)
        networks = {(config.model.name, config.model.width): config for config in sorted(configs, key=_seconds)}
        try:
            largest = max([largest, *(memory_needed(config, store, classes) for config in networks.values())])
        except Exception:  # a network of the user's own may not compute anything from silence
            return None
    return largest


def _seconds(config: Config) -> float:
    """Return the seconds of audio in a batch, by which the memory of a network grows."""
    return config.training.batch_size * config.training.crop_seconds


def configurations(search: Search, defaults: Mapping[str, Any]) -> Iterator[Config]:
    """Return the planned configurations of a search, or examples of its space.

    Args:
        search: The search.
        defaults: Default parameters of the study by dotted name.
    """
    if search.planned:
        return (Config.from_dotted(one.configuration) for one in search.planned)
    return search.space.configurations(defaults)
