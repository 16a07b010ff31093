"""The keys that only a configuration of a speech encoder has: ``model.revision``, ``model.layers`` and others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ser.utils.checks import require

WEIGHTED, LAST = "weighted", "last"

FROZEN = ("layers", "encoder_precision")
"""Keys that only a frozen encoder has a use for."""
FINE_TUNING = (
    "frozen_layers", "layer_lr_decay", "layer_drop", "mask_time_prob", "mask_feature_prob", "gradient_checkpointing",
)  # fmt: skip
"""Keys that only a fine-tuned encoder has a use for."""


@dataclass(frozen=True)
class EncoderParameters:
    """``model.*`` of a speech encoder, besides the keys that all models have.

    Raises:
        UserError: A value is out of range.
    """

    revision: str = ""
    """Version of the encoder: a commit of the hub, or a digest of a folder. The commands fill it in and record it."""
    pooling: Literal["mean", "mean_std"] = "mean"
    """What of the frames the head reads: their mean, or mean and standard deviation."""
    layers: str = WEIGHTED
    """For a frozen encoder: ``weighted``, a learned weighted sum of all layers (SUPERB); ``last``; or a number, 0 for
    the input of the transformer."""
    encoder_precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic that computes the stored layers of a frozen encoder."""
    frozen_layers: int = 0
    """For fine-tuning: number of the lowest transformer layers that keep their weights, with all modules below."""
    layer_lr_decay: float = 1.0
    """For fine-tuning: factor on the learning rate from each transformer layer to the one below."""
    layer_drop: float = 0.0
    """For fine-tuning: chance that a transformer layer is left out in a training step."""
    mask_time_prob: float = 0.05
    """For fine-tuning: share of the frames that are masked in training, in spans, where the architecture has masks."""
    mask_feature_prob: float = 0.0
    """For fine-tuning: share of the channels that are masked in training, in spans, where there are masks."""
    gradient_checkpointing: bool = False
    """For fine-tuning: less memory at the price of time, for long crops."""

    def __post_init__(self) -> None:
        require(
            self.layers in (WEIGHTED, LAST) or re.fullmatch(r"\d{1,4}", self.layers) is not None,
            f"model.layers is {self.layers!r}; it must be weighted, last, or the number of a layer from 0.",
        )
        require(
            0 <= self.frozen_layers <= 1000,
            f"model.frozen_layers is {self.frozen_layers}; it must be from 0 to the number of layers.",
        )
        require(0 < self.layer_lr_decay <= 1, f"model.layer_lr_decay is {self.layer_lr_decay}; it must be in (0, 1].")
        for name in ("layer_drop", "mask_time_prob", "mask_feature_prob"):
            value = getattr(self, name)
            require(0 <= value < 1, f"model.{name} is {value}; it must be in [0, 1).")
