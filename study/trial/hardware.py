"""The hardware that a trial runs on, for its record."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from ser.utils.parallel import cores

CPU_INFORMATION = Path("/proc/cpuinfo")


def hardware_tags(device: str, threads: int) -> dict[str, str]:
    """Return processor, threads and GPU of this process as tags of a run.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        threads: Torch threads of the trial.
    """
    tags = {"hardware.cpu": f"{_processor()}, {cores()} cores", "hardware.threads": str(threads)}
    if device == "cuda":
        tags["hardware.gpu"] = torch.cuda.get_device_name()
    return tags


def _processor() -> str:
    """Return the name of the processor, which only Linux gives without a command."""
    try:
        lines = CPU_INFORMATION.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
