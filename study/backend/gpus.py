"""Compares the GPUs that Ray counts with those that torch can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from ser.utils.errors import UserError


class TorchGpus(NamedTuple):
    """GPUs of a node as torch sees them.

    Args:
        usable: Number of GPUs on which torch can allocate memory.
        bfloat16: Whether all of them compute in bfloat16.
        build: Version of torch, and of CUDA that it is built for.
        error: Torch's own words about the first GPU that it cannot use; empty if there is none.
        memory: Bytes of the smallest GPU that torch can use; 0 if there is none.
    """

    usable: int
    bfloat16: bool
    build: str
    error: str
    memory: int = 0


def probe_gpus() -> TorchGpus:
    """Try every GPU of this machine; the process holds memory on them until it ends."""
    version = torch.version.cuda or torch.version.hip
    built = f"torch {torch.__version__}, built {f'for CUDA {version}' if version else 'without CUDA'}"
    usable, bfloat16, errors, sizes = 0, True, [], []
    for device in range(max(1, torch.cuda.device_count())):  # without any, torch says why
        try:
            torch.zeros(1, device=f"cuda:{device}").add_(1).item()
            with torch.cuda.device(device):
                bfloat16 = bfloat16 and bool(torch.cuda.is_bf16_supported(including_emulation=False))
            usable += 1
            sizes.append(torch.cuda.get_device_properties(device).total_memory)
        except (RuntimeError, AssertionError) as error:
            errors.append(f"GPU {device}: {error}")
    return TorchGpus(usable, bfloat16, built, (errors or [""])[0], min(sizes, default=0))


def smallest_memory() -> int:
    """Return the bytes of the smallest GPU of this machine, without using any; 0 if there is none."""
    devices = range(torch.cuda.device_count())
    return min((torch.cuda.get_device_properties(device).total_memory for device in devices), default=0)


def compare_gpus(counted: Mapping[str, float], found: Mapping[str, TorchGpus], *, same_precision: bool) -> None:
    """Raise if a trial could be sent to a GPU that torch cannot use.

    Args:
        counted: Ray's number of GPUs of each node that has any, by the node's description, such as ``this machine``.
        found: Torch's, of the same nodes.
        same_precision: Whether the GPUs themselves decide on the precision, so that all must decide the same.

    Raises:
        UserError: A node has fewer usable GPUs than Ray counts, or GPUs differ in precision.
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
    if same_precision and len({gpus.bfloat16 for gpus in found.values()}) > 1:
        without = ", ".join(node for node, gpus in found.items() if not gpus.bfloat16)
        raise UserError(
            f"the GPUs of {without} do not compute in bfloat16, others do, so that trials would differ by where they "
            "run. Choose one for all: --precision float32."
        )
