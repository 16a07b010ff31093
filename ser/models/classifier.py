"""What all models have in common: an embedding, a class head on it, and parts that can be frozen."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ser.utils.errors import UserError

MAX_WIDTH = 2.0

Freeze = Literal["none", "convolutions", "base"]


class Classifier(nn.Module):
    """Features to logits: ``head`` on what a subclass's ``embed`` gives.

    Args:
        dropout: Factor on the model's dropout rates, in [0, 1].

    Attributes:
        front_end: The front end (``ser.features.front_ends.FRONT_ENDS``) it reads unless asked otherwise.
        front_ends: All front ends it can read.
        min_frames: The shortest input, in frames.
        masks_padding: Whether the training loop tells it the ``lengths``. The CNNs are not told, as PANNs were not:
            they hear the silence behind a short utterance.
        needs_weights: Whether training it from scratch is pointless.
        convolutions: The children that ``freeze("convolutions")`` freezes.
        embedding_size: Length of an embedding.
        head: The linear layer from an embedding to C logits.
        head_dropout: What comes before it.

    Raises:
        UserError: ``dropout`` is out of range.
    """

    front_end: ClassVar[str] = "panns_16k"
    front_ends: ClassVar[tuple[str, ...]] = ("panns_16k", "panns_32k")
    min_frames: ClassVar[int]
    masks_padding: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = False
    convolutions: ClassVar[tuple[str, ...]] = ()
    embedding_size: int
    head: nn.Linear
    head_dropout: nn.Dropout

    def __init__(self, dropout: float) -> None:
        super().__init__()
        if not 0 <= dropout <= 1:
            raise UserError(f"model dropout is {dropout}; it scales the published rates and must be in [0, 1].")
        self._frozen: tuple[str, ...] = ()

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The embedding.

        Args:
            features: (N, T, M), T ≥ ``min_frames`` frames of the front end.
            lengths: (N,) valid frames of each, on any device. In evaluation mode, what lies behind them, any finite
                values, has no influence: the result is that of every utterance alone, cut to its length. One shorter
                than ``min_frames`` counts as that long. None takes all frames as valid.

        Returns:
            (N, ``embedding_size``).

        Raises:
            ValueError: Another shape, or too few frames.
        """
        raise NotImplementedError

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features (N, T, M) → logits (N, C); see `embed` for ``lengths`` and what raises."""
        logits: Tensor = self.head(self.head_dropout(self.embed(features, lengths)))
        return logits

    def freeze(self, what: Freeze) -> None:
        """Excludes parts from training for good: no gradient, no dropout, batch norm with its stored statistics.

        Args:
            what: ``base``, all but the head; ``convolutions``, the part below the transformer; or ``none``.

        Raises:
            UserError: The model has no convolutions apart from the rest.
        """
        if what == "convolutions" and not self.convolutions:
            raise UserError(
                f"model.freeze=convolutions: {type(self).__name__} has no convolutions below a transformer. "
                "Choose base, which freezes all but the class head, or none."
            )
        children = [name for name, _ in self.named_children() if name not in ("head", "head_dropout")]
        self._frozen = {"none": (), "convolutions": self.convolutions, "base": tuple(children)}[what]
        for name in self._frozen:
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """As ``nn.Module.train``, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).eval()
        return self


def check_features(features: Tensor, bins: int, min_frames: int) -> None:
    """Refuses what is not (N, T, ``bins``) with T ≥ ``min_frames``.

    Raises:
        ValueError: With the shape found and the one wanted.
    """
    if features.ndim != 3 or features.shape[2] != bins:
        raise ValueError(f"features must be (N, T, {bins}), got {tuple(features.shape)}")
    if features.shape[1] < min_frames:
        raise ValueError(f"{features.shape[1]} frames are too few: at least {min_frames} are needed. Pad the clip.")


def check_width(width: object) -> float:
    """Returns a width that is a number in (0, 2].

    Raises:
        UserError: It is none.
    """
    if isinstance(width, bool) or not isinstance(width, Real) or not 0 < float(width) <= MAX_WIDTH:
        raise UserError(f"model width must be a number > 0 and <= {MAX_WIDTH:g}, got {width!r}.")
    return float(width)


def scaled(counts: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Channel counts times ``width``, rounded, at least 1.

    Args:
        counts: The published counts.
        width: In (0, 2].

    Returns:
        As many counts.

    Raises:
        UserError: ``width`` is no number or out of range.
    """
    factor = check_width(width)
    return tuple(max(1, round(count * factor)) for count in counts)


def behind(lengths: Tensor, frames: int) -> Tensor:
    """(N, ``frames``) whether a frame lies behind its utterance's length."""
    return torch.arange(frames, device=lengths.device) >= lengths[:, None]


def initialise(module: nn.Module) -> None:
    """Xavier uniform weights and zero biases of a convolution or linear layer; for ``nn.Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
