"""The arithmetic of a training: what a device computes convolutions and matrix products in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ser.config import Config


@dataclass(frozen=True)
class Arithmetic:
    """Kind of device and the arithmetic of its convolutions and matrix products.

    Args:
        device: Kind of device.
        precision: ``bfloat16`` (autocast), ``tf32``, or ``float32`` as IEEE 754 has it.
        deterministic: Whether a GPU uses deterministic algorithms alone.
    """

    device: Literal["cpu", "cuda"]
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
        """Make this the arithmetic of the process."""


def resolve_arithmetic(config: Config, device: torch.device) -> Arithmetic:
    """Return the arithmetic of a configuration on a device.

    Args:
        config: Configuration.
        device: Device that it trains on.
    """
    kind: Literal["cpu", "cuda"] = "cuda" if device.type == "cuda" else "cpu"
    precision = config.training.precision
    if precision != "auto":
        return Arithmetic(kind, precision)
    return Arithmetic(kind, "bfloat16" if _has_bfloat16(kind) else "float32")


def _has_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_tile"))
