"""The hardware that a trial runs on, and how busy it is, for its record.

MLflow's own sampler of system metrics writes to MLflow from a thread of the process that trains. A trial does not know
MLflow, so it measures the same quantities itself, under the same names, and reports them with its epochs.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from ser.utils.parallel import cores
from study.schema import SYSTEM

CPU_INFORMATION = Path("/proc/cpuinfo")
DRIVER = Path("/sys/module/nvidia/version")


def hardware_tags(device: str, threads: int) -> dict[str, str]:
    """Return processor, threads, GPU and the libraries that compute there as tags of a run.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        threads: Torch threads of the trial.
    """
    tags = {"hardware.cpu": f"{_processor()}, {cores()} cores", "hardware.threads": str(threads)}
    if device == "cuda":
        tags["hardware.gpu"] = torch.cuda.get_device_name()
        cudnn: Any = torch.backends.cudnn
        # Of this process: the study's own, which records the other versions, may be on a machine without a GPU.
        versions = {
            "cuda": torch.version.cuda,
            "rocm": torch.version.hip,
            "cudnn": cudnn.version(),
            "nvidia-driver": _driver(),
        }
        tags |= {f"version.{name}": str(version) for name, version in versions.items() if version}
    return tags


def system_metrics(device: str) -> dict[str, float]:
    """Return how busy this machine is, under the names by which MLflow's UI shows it as system metrics.

    Args:
        device: ``"cuda"`` or ``"cpu"``.

    Returns:
        CPU use in percent of all cores since the last call (0 in a process's first one); memory in use in percent and
        MB (10⁶ bytes); for a GPU the same of its memory, and its use in percent just now where ``nvidia-ml-py`` is
        installed. All of the whole machine or GPU, other processes included.

    Example:
        >>> sorted(system_metrics("cpu"))[0]
        'system/cpu_utilization_percentage'
    """
    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_percentage": memory.used / memory.total * 100,
        "system_memory_usage_megabytes": memory.used / 1e6,
    }
    if device == "cuda":
        # A trial sees one GPU, whichever of the machine's it is. What cannot be measured ends no trial: nvidia-ml-py
        # may not be installed, and a part of a GPU (MIG) does not report its use.
        with suppress(Exception):
            free, total = torch.cuda.mem_get_info()
            found["gpu_0_memory_usage_percentage"] = (total - free) / total * 100
            found["gpu_0_memory_usage_megabytes"] = (total - free) / 1e6
            found["gpu_0_utilization_percentage"] = torch.cuda.utilization()
    return {f"{SYSTEM}{name}": round(float(value), 1) for name, value in found.items()}


def _driver() -> str:
    """Return the version of Nvidia's driver; empty where it cannot be read."""
    try:
        return DRIVER.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _processor() -> str:
    """Return the name of the processor, which only Linux gives without a command."""
    try:
        lines = CPU_INFORMATION.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
