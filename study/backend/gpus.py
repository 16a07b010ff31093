"""Compares the GPUs that Ray counts with those that torch can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from ser.training.device.arithmetic import has_bfloat16, has_tf32
from ser.utils.errors import UserError
from study.backend.arithmetic import Abilities


class TorchGpus(NamedTuple):
    """GPUs of a node as torch sees them.

    Args:
        usable: Number of GPUs on which torch can allocate memory.
        abilities: What each of them computes.
        build: Version of torch, and of CUDA that it is built for.
        error: Torch's own words about the first GPU that it cannot use; empty if there is none.
        memory: Bytes of the smallest GPU that torch can use; 0 if there is none.
    """

    usable: int
    abilities: Abilities
    build: str
    error: str
    memory: int = 0


def probe_gpus() -> TorchGpus:
    """Try every GPU of this machine; the process holds memory on them until it ends."""
    version = torch.version.cuda or torch.version.hip
    built = f"torch {torch.__version__}, built {f'for CUDA {version}' if version else 'without CUDA'}"
    bfloat16, tf32, errors, sizes = [], [], [], []
    for device in range(max(1, torch.cuda.device_count())):  # without any, torch says why
        try:
            torch.zeros(1, device=f"cuda:{device}").add_(1).item()
            with torch.cuda.device(device):
                bfloat16.append(has_bfloat16("cuda"))
                tf32.append(has_tf32("cuda"))
            sizes.append(torch.cuda.get_device_properties(device).total_memory)
        except (RuntimeError, AssertionError) as error:
            errors.append(f"GPU {device}: {error}")
    return TorchGpus(len(sizes), Abilities(bfloat16, tf32), built, (errors or [""])[0], min(sizes, default=0))


def smallest_memory() -> int:
    """Return the bytes of the smallest GPU of this machine, without using any; 0 if there is none."""
    devices = range(torch.cuda.device_count())
    return min((torch.cuda.get_device_properties(device).total_memory for device in devices), default=0)


def compare_gpus(counted: Mapping[str, float], found: Mapping[str, TorchGpus]) -> None:
    """Raise if a trial could be sent to a GPU that torch cannot use.

    Args:
        counted: Ray's number of GPUs of each node that has any, by the node's description, such as ``this machine``.
        found: Torch's, of the same nodes.

    Raises:
        UserError: A node has fewer usable GPUs than Ray counts.
    """
    for node, count in counted.items():
        gpus = found[node]
        if gpus.usable < count:
            why = (gpus.error.strip().splitlines() or ["it sees no other"])[0].rstrip(".")
            raise UserError(
                f"Ray counts {count:g} GPU(s) on {node}, but torch can use {gpus.usable} ({why}; {gpus.build}). "
                "Install a torch for a CUDA version that the driver supports, which nvidia-smi shows "
                "(https://pytorch.org/get-started/locally), start the node's Ray with the number of GPUs that work "
                "(--num-gpus), or train on CPUs: --gpus-per-trial 0."
            )
