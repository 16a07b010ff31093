"""The Ray that trials run on: this machine's own or a cluster, and how many trials fit."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ser.utils.errors import UserError
from study.backend import local as local_ray
from study.backend.local import QUIET, worker_variables
from study.environment import CODE_ROOT
from study.messages import first_line
from study.options import StudyOptions
from study.tracking.store import ANSWER_SECONDS

if TYPE_CHECKING:
    from study.setup.prepare import Preparation

ROUNDING = 1e-9
NODE_SECONDS = 60
NARROW_WIDTH = 0.25


@dataclass(frozen=True)
class Slots:
    """What the cluster gives to trials.

    Args:
        cpus: CPUs of a trial.
        gpus: GPUs of a trial.
        count: Trials at a time.
    """

    cpus: float
    gpus: float
    count: int


def connect(options: StudyOptions) -> None:
    """Starts a local Ray, or joins the cluster at ``--address``; does nothing if that has been done.

    Raises:
        UserError: No cluster answers.
    """
    if options.address is None:
        local_ray.start()
        return
    if ray.is_initialized():
        return
    _check_address(options.address)
    # What Ray will do of itself, and warns of until then: a trial's device is chosen here, not by hiding GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's workers look for the project in the driver's folder first, and another version may be there.
    with contextlib.chdir(CODE_ROOT):
        try:
            ray.init(address=options.address, runtime_env={"env_vars": worker_variables()}, **QUIET)
        except Exception as error:
            raise _no_cluster(options.address, error) from error


def start_ray(prepared: Preparation) -> Slots:
    """Starts a local Ray, or joins the cluster at ``--address``, if that has not been done, and looks at its nodes.

    Raises:
        UserError: No cluster answers, or it has no room for a trial.
    """
    options = prepared.options
    connect(options)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    _check_nodes([str(prepared.folder), str(prepared.store.path), str(CODE_ROOT)])
    slots = slots_of(nodes, options)
    if slots.count < 1:
        have = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise UserError(
            f"a trial asks for {slots.cpus:g} CPU(s) and {slots.gpus:g} GPU(s), and no node has them; there are "
            f"{have}. Lower --cpus-per-trial or --gpus-per-trial."
        )
    return slots


def _check_nodes(paths: Sequence[str]) -> None:
    """Raises if some node does not see what every trial needs."""
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]

    @ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]
    def missing() -> list[str]:
        return [path for path in paths if not os.path.exists(path)]  # noqa: PTH110 (a node has no project yet)

    asked = {
        node["NodeManagerHostname"]: missing.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in others
    }
    for host, answer in asked.items():
        try:
            lacking = ray.get(answer, timeout=NODE_SECONDS)
        except Exception as error:
            raise UserError(f"node {host} of the cluster cannot run anything ({first_line(error)}).") from None
        if lacking:
            raise UserError(
                f"node {host} of the cluster does not see {', '.join(map(repr, lacking))}. Every node needs this "
                "repository and --storage-path under the same paths, on a shared file system for instance."
            )


def _check_address(address: str) -> None:
    """Ray would try for minutes to reach a port where nothing listens."""
    host_and_port = re.fullmatch(r"(?:ray://)?([^/:]+):(\d{1,5})", address)
    if host_and_port is None:
        return
    try:
        socket.create_connection((host_and_port[1], int(host_and_port[2])), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster answers at --address {address!r} ({first_line(error)}). Start one with 'ray start --head', or "
        "leave the option out. If it is there and asks for a token, export RAY_AUTH_MODE=token here and on every node."
    )


def trial_resources(options: StudyOptions, cpus: float, gpus_there: float) -> tuple[float, float]:
    """CPUs and GPUs of a trial, asked for or by default.

    Args:
        options: The study's options.
        cpus: CPUs of the smallest node.
        gpus_there: GPUs of all nodes.
    """
    gpus = options.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if gpus_there else 0.0
    if options.cpus_per_trial is not None:
        return options.cpus_per_trial, gpus
    # Narrow networks, and heads alone, leave a second thread idle; wide ones do not (docs/performance.md).
    model = options.plain.model
    return (1.0 if gpus or model.width <= NARROW_WIDTH or model.reads_embeddings else cpus), gpus


def slots_of(nodes: Sequence[Mapping[str, float]], options: StudyOptions) -> Slots:
    """What a trial gets, and how many fit; a trial lives on one node, and a share of a GPU on one GPU.

    Args:
        nodes: Ray's resources of each node.
        options: The study's options.
    """
    # The head of a cluster often has no CPU to give.
    smallest = min((node["CPU"] for node in nodes if node.get("CPU")), default=1.0)
    cpus, gpus = trial_resources(options, smallest, sum(node.get("GPU", 0.0) for node in nodes))
    count = 0
    for node in nodes:
        room = [node.get("CPU", 0.0) / cpus]
        if gpus:
            room.append(node.get("GPU", 0.0) * int(1 / gpus + ROUNDING))
        count += int(min(room) + ROUNDING)
    return Slots(cpus, gpus, min(count, options.max_concurrent or count))
