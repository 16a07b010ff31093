"""What a trial gets of the machines, and how many trials run at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.options import StudyOptions

ROUNDING = 1e-9
NARROW_WIDTH = 0.25


@dataclass(frozen=True)
class TrialResources:
    """CPUs and GPUs of a trial.

    Args:
        cpus: CPUs of a trial, more than 0.
        gpus: GPUs of a trial, from 0 to 1.
        count: Trials that run at a time.
    """

    cpus: float
    gpus: float
    count: int


def trial_resources(nodes: Sequence[Mapping[str, float]], options: StudyOptions) -> TrialResources:
    """Return what a trial gets, and how many trials fit; a trial lives on one node, its share of a GPU on one GPU.

    Args:
        nodes: ``CPU`` and ``GPU`` of each node, as Ray counts them.
        options: The study's options.

    Returns:
        The resources; ``count`` is 0 if no node has room for a trial.

    Example:
        >>> trial_resources([{"CPU": 8.0, "GPU": 2.0}], StudyOptions(gpus_per_trial=0.5))
        TrialResources(cpus=1.0, gpus=0.5, count=4)
    """
    # The head of a cluster often has no CPU for trials.
    smallest = min((node["CPU"] for node in nodes if node.get("CPU")), default=1.0)
    cpus, gpus = _of_one_trial(options, smallest, sum(node.get("GPU", 0.0) for node in nodes))
    count = 0
    for node in nodes:
        room = [node.get("CPU", 0.0) / cpus]
        if gpus:
            room.append(node.get("GPU", 0.0) * int(1 / gpus + ROUNDING))
        count += int(min(room) + ROUNDING)
    return TrialResources(cpus, gpus, min(count, options.max_concurrent or count))


def _of_one_trial(options: StudyOptions, smallest_cpus: float, all_gpus: float) -> tuple[float, float]:
    model, gpus = options.shared.model, options.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if all_gpus and not model.reads_embeddings else 0.0
    if options.cpus_per_trial is not None:
        return options.cpus_per_trial, gpus
    # Narrow networks and heads on stored embeddings leave a second thread idle, others do not (docs/performance.md).
    narrow = model.width <= NARROW_WIDTH or model.reads_embeddings
    return (1.0 if gpus or narrow else smallest_cpus), gpus
