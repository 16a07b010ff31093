"""Ray for trials: a local Ray or a cluster, and whether its nodes have what a trial needs."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ser.utils.errors import UserError, first_line
from study.backend import local
from study.backend.arithmetic import Abilities, common_arithmetic, cpu_abilities
from study.backend.gpus import TorchGpus, compare_gpus, probe_gpus
from study.backend.local import QUIET, worker_variables
from study.backend.trial_resources import GpuDemand, TrialResources, trial_resources
from study.environment import CODE_ROOT
from study.options import StudyOptions

Answer = TypeVar("Answer")

SEE_ALL_GPUS = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
"""Ray's variable that is 0 where a task without GPUs sees all of them."""

ANSWER_SECONDS = 5
NODE_SECONDS = 60


def start_ray(options: StudyOptions, folders: Sequence[str], demand: GpuDemand) -> TrialResources:
    """Start a local Ray, or join the cluster at ``--address``, and check its nodes.

    Args:
        options: The study's options.
        folders: What every node must see under the same path, besides the code.
        demand: What the trials take of GPUs.

    Returns:
        What a trial gets, and how many run at a time.

    Raises:
        UserError: No cluster answers, a node lacks a folder or has GPUs that torch cannot use, no node or share of a
            GPU has room for a trial, or nodes would compute trials differently or not as asked.
    """
    if options.address is None:
        local.start(f"--resume --name {options.name}")
    else:
        join(options.address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    _check_nodes([*folders, str(CODE_ROOT)])
    resources = trial_resources(nodes, options, demand)
    precision = options.shared.training.precision
    if resources.gpus:
        gpus = _usable_gpus()
        resources = trial_resources(nodes, options, demand, min((each.memory for each in gpus.values()), default=0))
        found = common_arithmetic("cuda", precision, {node: each.abilities for node, each in gpus.items()})
    else:
        found = common_arithmetic("cpu", precision, _cpus())
    if resources.count < 1:
        have = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise UserError(
            f"a trial asks for {resources.cpus:g} CPU(s) and {resources.gpus:g} GPU(s), but the nodes have {have}. "
            "Lower --cpus-per-trial or --gpus-per-trial."
        )
    arithmetic, warning = found
    return replace(resources, arithmetic=arithmetic, warning=warning)


def join(address: str) -> None:
    """Join a Ray cluster, unless Ray has been started.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT`` or ``auto``.

    Raises:
        UserError: No cluster answers.
    """
    if ray.is_initialized():
        return
    check_address(address)
    # Ray's future default, of which it warns until then. A trial's device is chosen here, not by hiding GPUs.
    os.environ.setdefault(SEE_ALL_GPUS, "0")
    # Ray's workers import from the driver's current folder first, and another `study` or `ser` may be there.
    with contextlib.chdir(CODE_ROOT):
        try:
            ray.init(address=address, runtime_env={"env_vars": worker_variables()}, **QUIET)
        except Exception as error:
            raise _no_cluster(address, error) from error


def check_address(address: str) -> None:
    """Raise unless something listens at an address; Ray itself would try for minutes.

    Args:
        address: As for ``join``; ``auto`` and names without a port are left to Ray.

    Raises:
        UserError: Nothing listens there.
    """
    host_and_port = re.fullmatch(r"(?:ray://)?([^/:]+):(\d{1,5})", address)
    if host_and_port is None:
        return
    try:
        socket.create_connection((host_and_port[1], int(host_and_port[2])), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _check_nodes(paths: Sequence[str]) -> None:
    """Raise if a node does not see one of the paths."""

    def missing() -> list[str]:
        return [path for path in paths if not os.path.exists(path)]  # noqa: PTH110 (a node may lack the project)

    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    for host, lacking in _ask(others, missing).items():
        if lacking:
            raise UserError(
                f"{host} does not see {', '.join(map(repr, lacking))}. Every node needs this "
                "repository and --storage-path under the same paths, on a shared file system for instance."
            )


def _usable_gpus() -> dict[str, TorchGpus]:
    """Return the GPUs of each node that has any; raise if torch cannot use all that Ray counts."""
    nodes = _nodes_with("GPU")
    found = _ask(nodes, probe_gpus)
    compare_gpus({_called(node): node["Resources"]["GPU"] for node in nodes}, found)
    return found


def _cpus() -> dict[str, Abilities]:
    """Return what the CPU of each node computes that has any; this machine needs no other process for that."""
    here = ray.get_runtime_context().get_node_id()
    nodes = _nodes_with("CPU")
    own = {_called(node): cpu_abilities() for node in nodes if node["NodeID"] == here}
    return {**own, **_ask([node for node in nodes if node["NodeID"] != here], cpu_abilities)}


def _nodes_with(resource: str) -> list[Mapping[str, Any]]:
    """Return the nodes that have some of a resource."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(resource)]


def _ask(nodes: Sequence[Mapping[str, Any]], question: Callable[[], Answer]) -> dict[str, Answer]:
    """Return each node's answer, by what messages call the node."""
    # A process of its own, which sees all GPUs, and ends with the answer, so that it keeps no memory of them.
    task = ray.remote(num_cpus=0, max_retries=0, max_calls=1, runtime_env={"env_vars": {SEE_ALL_GPUS: "0"}})(question)
    asked = {
        _called(node): task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    }
    answers = {}
    for host, answer in asked.items():
        try:
            answers[host] = ray.get(answer, timeout=NODE_SECONDS)
        except Exception as error:
            raise UserError(f"{host} cannot run anything ({first_line(error)}).") from None
    return answers


def _called(node: Mapping[str, Any]) -> str:
    """Return what messages call a node."""
    if node["NodeID"] == ray.get_runtime_context().get_node_id():
        return "this machine"
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) of the cluster"


def _no_cluster(address: str, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster answers at --address {address!r} ({first_line(error)}). Start one with 'ray start --head', or "
        "leave the option out. If it is there and asks for a token, export RAY_AUTH_MODE=token here and on every node."
    )
