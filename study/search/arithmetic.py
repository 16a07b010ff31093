"""The arithmetic of a session's trials, compared with that of earlier sessions before any of them runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from study.backend.trial_resources import TrialResources
from study.options import StudyOptions
from study.search.gpu_demand import configurations, needs_gpu
from study.search.trial_logs import TrialLogs
from study.setup.prepared_study import Search
from study.tracking.matching import devices_of


def without_networks(resources: TrialResources, searches: Sequence[Search], options: StudyOptions) -> TrialResources:
    """Return the resources of trials without an arithmetic if no search trains a network.

    Args:
        resources: What a trial gets.
        searches: All searches of the session.
        options: The study's options.
    """
    models = (config.model for search in searches for config in configurations(search, options.defaults))
    return replace(resources, arithmetic=None, warning="") if all(model.is_classical for model in models) else resources


def earlier_arithmetic(
    resources: TrialResources, searches: Sequence[Search], logs: Sequence[TrialLogs], options: StudyOptions
) -> str:
    """Return a warning if trials of earlier sessions were computed otherwise than those of now; else an empty string.

    Args:
        resources: What a trial gets.
        searches: All searches of the session.
        logs: Event logs of their trials.
        options: The study's options.
    """
    if resources.arithmetic is None:
        return ""
    found: Counter[str] = Counter()
    for search, own in zip(searches, logs, strict=True):
        device = "cuda" if resources.gpus and needs_gpu(search, options) else "cpu"
        chosen = any(config.training.precision != "auto" for config in configurations(search, options.defaults))
        compared = resources.arithmetic.name if device == resources.arithmetic.device and not chosen else None
        found.update(name for name in own.arithmetics() if devices_of(name) != [device] or compared not in (None, name))
    if not found:
        return ""
    count = found.total()
    return (
        f"{count} trial{'s' * (count > 1)} of this study {'were' if count > 1 else 'was'} computed in "
        f"{' or '.join(sorted(found))}, and those of now are in {resources.arithmetic.name}. Their numbers agree in "
        "distribution only: analyses show the newest, and name the others as left out. To have one arithmetic, stop "
        "this study, and resume it where it began."
    )
