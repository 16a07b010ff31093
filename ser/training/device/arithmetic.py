"""The arithmetic of a network: what a device computes convolutions and matrix products in, and by which algorithms.

float32 is that of IEEE 754 on every device, also where bfloat16 leaves an operation in float32. On a GPU torch computes
convolutions in TF32 by default, which keeps 10 of 23 bits of the factors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ser.config import Config
from ser.utils.errors import UserError

Device = Literal["cpu", "cuda"]

SEPARATOR = ", then "
"""Between the names of what a training that was resumed elsewhere was computed in."""


@dataclass(frozen=True)
class Arithmetic:
    """Kind of device and the arithmetic of its convolutions and matrix products.

    Args:
        device: Kind of device.
        precision: ``bfloat16`` (autocast), ``tf32``, or ``float32`` as IEEE 754 has it.
        deterministic: Whether a GPU uses deterministic algorithms alone; without effect on a CPU.
    """

    device: Device
    precision: Literal["bfloat16", "tf32", "float32"]
    deterministic: bool = False

    @property
    def name(self) -> str:
        """Return device and precision for records, such as ``cuda bfloat16``."""
        return f"{self.device} {self.precision}"

    def autocast(self) -> torch.autocast:
        """Return the context for a forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16")

    def apply(self) -> None:
        """Make this the arithmetic of the process, until another one is applied.

        Deterministic algorithms hold for all of cuBLAS only if the first one is applied before the process computes on
        a GPU.
        """
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        # Older switches of the same, which torch.compile and torch.backends.cudnn.flags read: they raise an error where
        # old and new ones disagree.
        torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        backends: Any = torch.backends  # some of these switches have no types
        for operation in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
            operation.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"
        for operation in (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn):
            operation.fp32_precision = "ieee"
        on_gpu = self.deterministic and self.device == "cuda"
        if torch.are_deterministic_algorithms_enabled() != on_gpu:  # the switch imports torch's compiler: two seconds
            torch.use_deterministic_algorithms(on_gpu)
        if on_gpu:
            # torch gives cuBLAS workspaces that make it deterministic; that of cuDNN's LSTM needs the variable.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            backends.cudnn.benchmark = False
            switches: Any = torch.utils.deterministic
            switches.fill_uninitialized_memory = False  # takes time, and nothing here reads such memory


def device_kind(device: torch.device) -> Device:
    """Return the kind of a device.

    Args:
        device: A CPU, or a GPU of CUDA or ROCm.
    """
    return "cuda" if device.type == "cuda" else "cpu"


def resolve_arithmetic(config: Config, device: torch.device) -> Arithmetic:
    """Return the arithmetic of a training.

    Args:
        config: Configuration.
        device: Device that it trains on.

    Raises:
        UserError: The device has no TF32, and ``training.precision`` asks for it.
    """
    kind = device_kind(device)
    precision, deterministic = config.training.precision, config.training.deterministic
    if precision == "auto":
        return Arithmetic(kind, "bfloat16" if has_bfloat16(kind) else "float32", deterministic)
    if precision == "tf32" and not has_tf32(kind):
        lacking = (
            f"this GPU ({torch.cuda.get_device_name()}) lacks it" if kind == "cuda" else "this training is on a CPU"
        )
        raise no_tf32(lacking)
    return Arithmetic(kind, precision, deterministic)


def inference_arithmetic(config: Config, device: torch.device) -> Arithmetic:
    """Return the arithmetic of predictions: that of a training on the device, or float32 where that needs TF32.

    Args:
        config: Configuration of the training.
        device: Device that predicts.
    """
    kind = device_kind(device)
    if config.training.precision == "tf32" and not has_tf32(kind):
        return Arithmetic(kind, "float32", config.training.deterministic)
    return resolve_arithmetic(config, device)


def has_bfloat16(kind: Device) -> bool:
    """Return whether a CPU or the current GPU computes in bfloat16 without emulating it.

    Args:
        kind: Kind of device.
    """
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_tile"))


def has_tf32(kind: Device) -> bool:
    """Return whether the current GPU computes in TF32, as those of compute capability 8.0 and above; a CPU never does.

    Args:
        kind: Kind of device.
    """
    return kind == "cuda" and bool(torch.cuda.is_tf32_supported())


def no_tf32(lacking: str) -> UserError:
    """Return the error for TF32 on a device without it.

    Args:
        lacking: Clause about the device.
    """
    return UserError(
        f"training.precision is tf32, which is for GPUs of compute capability 8.0 and above, and {lacking}. Choose "
        "float32, bfloat16 or auto."
    )


def not_deterministic(error: RuntimeError) -> UserError | None:
    """Return the error of an operation that ``training.deterministic`` rules out; None for any other.

    Args:
        error: Error of torch.
    """
    operation, found, _ = str(error).partition(" does not have a deterministic implementation")
    if not found:
        return None
    return UserError(
        f"training.deterministic is true, and torch has no deterministic {operation} for GPUs, which the loss or the "
        "network uses. Choose another one, or leave training.deterministic out."
    )


def emulation_warning(arithmetic: Arithmetic, where: str = "") -> str:
    """Return a warning if bfloat16 is emulated, which is right but slow; else an empty string.

    Args:
        arithmetic: Arithmetic of a training.
        where: Name of the device in the sentence; empty for this machine's.
    """
    if arithmetic.precision != "bfloat16" or has_bfloat16(arithmetic.device):
        return ""
    return emulated(where or ("this GPU" if arithmetic.device == "cuda" else "this CPU"))


def emulated(where: str) -> str:
    """Return the warning that a device emulates bfloat16.

    Args:
        where: Name of the device.
    """
    return f"{where} emulates bfloat16, which takes longer than float32. auto chooses what is fast."


def together(before: str | None, now: str) -> str:
    """Return what a training was computed in that may have been resumed elsewhere.

    Args:
        before: Name of what it was computed in so far; None if it begins, or if that is unknown.
        now: Name of the arithmetic from now on.

    Example:
        >>> together(None, "cuda bfloat16"), together("cuda bfloat16", "cpu float32")
        ('cuda bfloat16', 'cuda bfloat16, then cpu float32')
    """
    if before is None or before.split(SEPARATOR)[-1] == now:
        return before or now
    return f"{before}{SEPARATOR}{now}"
