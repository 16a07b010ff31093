"""The Ray that trials run on: this machine's own or a cluster, and how many trials fit."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ser.errors import UserError
from ser.parallel import ALLOCATOR, cores
from study.environment import ROOT, environment
from study.messages import first_line
from study.options import StudyOptions
from study.tracking import ANSWER_SECONDS

if TYPE_CHECKING:
    from study.preparation import Preparation

ROUNDING = 1e-9
NODE_SECONDS = 60
NARROW_WIDTH = 0.25

# A worker imports what trials need before it is asked for anything. The workers that Ray would start with itself, one
# for each CPU, take no trial.
WORKERS = {"RAY_preload_python_modules": "study.worker", "RAY_prestart_worker_first_driver": "0"}


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
    if ray.is_initialized():
        return
    # What Ray will do of itself, and warns of until then: a trial's device is chosen here, not by hiding GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"PYTHONPATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **ALLOCATOR}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address is not None:
        _check_address(options.address)
    # Ray's workers look for the project in the driver's folder first, and another version may be there.
    with contextlib.chdir(ROOT):
        if options.address is not None:
            try:
                ray.init(address=options.address, runtime_env={"env_vars": variables}, **quiet)
            except Exception as error:
                raise _no_cluster(options.address, error) from error
            return
        with environment({**variables, **WORKERS}):
            ray.init(address="local", num_cpus=cores(), include_dashboard=False, **quiet)
    # The autoscaler has no machine to add here, and would take a second to end.
    with contextlib.suppress(AttributeError):
        ray._private.worker._global_node.kill_monitor(check_alive=False)


def start_ray(prepared: Preparation) -> Slots:
    """Starts a local Ray, or joins the cluster at ``--address``, if that has not been done, and looks at its nodes.

    Raises:
        UserError: No cluster answers, or it has no room for a trial.
    """
    options = prepared.options
    connect(options)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    _check_nodes([str(prepared.folder), str(prepared.store.path), str(ROOT)])
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
