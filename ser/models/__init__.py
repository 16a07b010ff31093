"""Models by name: log-mel (N, T, 64) in, logits (N, C) out, and an embedding from ``.embed``."""

from __future__ import annotations

from torch import nn

from ser.errors import unknown_name
from ser.models.cnn14 import Cnn14

__all__ = ["MODELS", "Cnn14", "build_model"]

MODELS: dict[str, type[nn.Module]] = {"cnn14": Cnn14}


def build_model(name: str, num_classes: int, width: float = 1.0, dropout: float = 1.0) -> nn.Module:
    """A model by name, its weights drawn from torch's global generator: seed it first.

    Args:
        name: A key of `MODELS`.
        num_classes: C, the number of outputs.
        width: Factor on the channels, in (0, 2].
        dropout: Factor on the published dropout rates, in [0, 1].

    Returns:
        The model, in training mode, on the CPU.

    Raises:
        UserError: Unknown name, or ``width`` or ``dropout`` out of range.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name](num_classes, width=width, dropout=dropout)
