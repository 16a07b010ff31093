"""What a trial gets of the machines, and how many trials run at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ser.training.device.arithmetic import Arithmetic
from ser.training.device.gpu_memory import CONTEXT, gigabytes
from ser.utils.errors import UserError
from study.options import StudyOptions

ROUNDING = 1e-9
NARROW_WIDTH = 0.25

MAX_SHARING = 4
"""Trials that share a GPU by default; more have not been measured."""


@dataclass(frozen=True)
class GpuDemand:
    """Demand of a study's trials for GPUs.

    Args:
        any: Whether a trial takes a GPU at all; heads on stored embeddings and classical models do not.
        memory: Bytes that the neediest trial takes, without CUDA's context; None where a trial takes a whole GPU,
            because its network is not narrow or its memory is not known.
        trials: Trials of the largest search.
    """

    any: bool = True
    memory: int | None = None
    trials: int = 1


@dataclass(frozen=True)
class TrialResources:
    """CPUs and GPUs of a trial.

    Args:
        cpus: CPUs of a trial, more than 0.
        gpus: GPUs of a trial, from 0 to 1.
        count: Trials that run at a time.
        sharing: How trials share a GPU, for people; empty where they do not.
        arithmetic: What the trials' networks are computed in; None before the nodes are asked.
        warning: What a user may want to know about it; mostly empty.
    """

    cpus: float
    gpus: float
    count: int
    sharing: str = field(default="", compare=False, repr=False)
    arithmetic: Arithmetic | None = field(default=None, compare=False, repr=False)
    warning: str = field(default="", compare=False, repr=False)

    @property
    def in_words(self) -> str:
        """Return the resources for people.

        Example:
            >>> TrialResources(1.0, 0.5, 4, "2 share a GPU").in_words
            '1 CPU, 0.5 GPU (2 share a GPU); 4 at a time'
        """
        sharing = f" ({self.sharing})" if self.sharing else ""
        arithmetic = f"; {self.arithmetic.name}" if self.arithmetic else ""
        return f"{self.cpus:g} CPU, {self.gpus:.3g} GPU{sharing}; {self.count} at a time{arithmetic}"


def trial_resources(
    nodes: Sequence[Mapping[str, float]], options: StudyOptions, demand: GpuDemand, memory: int = 0
) -> TrialResources:
    """Return what a trial gets, and how many trials fit; a trial lives on one node, its share of a GPU on one GPU.

    Args:
        nodes: ``CPU`` and ``GPU`` of each node, as Ray counts them.
        options: The study's options.
        demand: What its trials take of GPUs.
        memory: Bytes of the smallest GPU, 0 where they are not known.

    Returns:
        The resources; ``count`` is 0 if no node has room for a trial.

    Raises:
        UserError: ``--gpus-per-trial`` is a share of a GPU with no room for a trial.

    Example:
        >>> nodes = [{"CPU": 8.0, "GPU": 2.0}]
        >>> trial_resources(nodes, StudyOptions(gpus_per_trial=0.5), GpuDemand())
        TrialResources(cpus=1.0, gpus=0.5, count=4)
        >>> narrow = GpuDemand(memory=2 * 10**9, trials=40)
        >>> trial_resources(nodes, StudyOptions(), narrow, memory=80 * 10**9).in_words
        '1 CPU, 0.25 GPU (4 share a GPU: narrow network, at most about 2.6 GB of 20 GB each); 8 at a time'
    """
    # The head of a cluster often has no CPU for trials.
    smallest = min((node["CPU"] for node in nodes if node.get("CPU")), default=1.0)
    gpus = _share(nodes, options, demand, memory)
    cpus = _cpus(options, smallest, gpus)
    count = 0
    for node in nodes:
        room = [node.get("CPU", 0.0) / cpus]
        if gpus:
            room.append(node.get("GPU", 0.0) * _per_gpu(gpus))
        count += int(min(room) + ROUNDING)
    return TrialResources(cpus, gpus, min(count, options.max_concurrent or count), _sharing(gpus, demand, memory))


def _share(nodes: Sequence[Mapping[str, float]], options: StudyOptions, demand: GpuDemand, memory: int) -> float:
    """Return the share of a GPU that a trial gets."""
    all_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    gpus = options.gpus_per_trial
    if gpus is None and demand.any and all_gpus:
        return round(1 / _trials_per_gpu(nodes, options, demand, memory), 4)
    if gpus and gpus < 1 and memory and gpus * memory <= CONTEXT:
        raise UserError(
            f"--gpus-per-trial {gpus:g} of a GPU with {gigabytes(memory)} is {gigabytes(gpus * memory)}, and CUDA "
            f"takes {gigabytes(CONTEXT)} for each trial. Choose a larger share."
        )
    return gpus or 0.0


def _trials_per_gpu(nodes: Sequence[Mapping[str, float]], options: StudyOptions, demand: GpuDemand, memory: int) -> int:
    """Return how many trials share a GPU: as many as its memory, the CPUs and the number of trials suggest."""
    if demand.memory is None or not memory:
        return 1
    with_gpus = [node for node in nodes if node.get("GPU")]
    # Ray fills one GPU before the next, so more shares than trials or CPUs would leave GPUs idle.
    wanted = min(options.max_concurrent or math.inf, demand.trials)
    per_trial = options.cpus_per_trial or 1.0
    limits = (
        MAX_SHARING,
        memory / (demand.memory + CONTEXT),
        min(node.get("CPU", 0.0) / per_trial / node["GPU"] for node in with_gpus),
        math.ceil(wanted / sum(node["GPU"] for node in with_gpus)),
    )
    return max(1, int(min(limits) + ROUNDING))


def _cpus(options: StudyOptions, smallest_cpus: float, gpus: float) -> float:
    if options.cpus_per_trial is not None:
        return options.cpus_per_trial
    # Narrow networks and heads on stored embeddings leave a second thread idle, others do not (docs/performance.md).
    model = options.shared.model
    narrow = model.width <= NARROW_WIDTH or model.reads_embeddings
    return 1.0 if gpus or narrow else smallest_cpus


def _per_gpu(gpus: float) -> int:
    return int(1 / gpus + ROUNDING)


def _sharing(gpus: float, demand: GpuDemand, memory: int) -> str:
    if not gpus or (count := _per_gpu(gpus)) == 1:
        return ""
    share = gigabytes(gpus * memory) if memory else ""
    if demand.memory is None:
        return f"{count} share a GPU" + (f", {share} each" if share else "")
    needed = gigabytes(demand.memory + CONTEXT)
    return f"{count} share a GPU: narrow network, at most about {needed}" + (f" of {share}" if share else "") + " each"
