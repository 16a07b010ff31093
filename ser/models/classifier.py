"""The interface that all networks share: an embedding, a class head, and modules that can be frozen."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ser.utils.errors import UserError

MAX_WIDTH = 2.0

Freeze = Literal["none", "convolutions", "base"]


class Classifier(nn.Module):
    """Base class of all networks: ``head`` maps the embedding that a subclass computes to logits.

    The constructor of a subclass takes ``(num_classes, width=1.0, dropout=1.0)`` and sets ``embedding_size``, ``head``
    and ``head_dropout``. A subclass also implements `embed`.

    Args:
        dropout: Factor on the dropout rates of the network, in [0, 1].

    Attributes:
        front_end: The front end (``ser.features.front_ends.FRONT_ENDS``) that it reads by default.
        front_ends: All front ends that it can read.
        min_frames: Length of the shortest input, in frames.
        masks_padding: Whether the training loop passes ``lengths``. It does not for the CNNs, in line with PANNs: they
            see the padding after a short utterance.
        convolutions: Names of the child modules that ``freeze("convolutions")`` freezes.
        head_names: Names of the children and parameters that are trained at the full learning rate; the others have
            ``optimizer.base_lr_factor``.
        embedding_size: E, length of an embedding.
        head: The linear layer from an embedding to C logits.
        head_dropout: The dropout before ``head``.

    Raises:
        UserError: If ``dropout`` is out of range.
    """

    front_end: ClassVar[str] = "panns_16k"
    front_ends: ClassVar[tuple[str, ...]] = ("panns_16k", "panns_32k")
    min_frames: ClassVar[int] = 1
    masks_padding: ClassVar[bool] = False
    convolutions: ClassVar[tuple[str, ...]] = ()
    head_names: ClassVar[tuple[str, ...]] = ("head",)
    embedding_size: int
    head: nn.Linear
    head_dropout: nn.Dropout

    def __init__(self, dropout: float) -> None:
        super().__init__()
        if not 0 <= dropout <= 1:
            raise UserError(f"model.dropout is {dropout}; it scales the published rates and must be in [0, 1].")
        self._frozen: tuple[str, ...] = ()

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the embedding of each utterance.

        Args:
            features: (N, T, M), T ≥ ``min_frames`` frames of the front end.
            lengths: (N,) numbers of valid frames, None if all frames are valid. The training loop passes a tensor on
                the CPU, whatever the device of the features: decisions that follow from the lengths are then taken
                without waiting for a GPU, and `uploaded` brings them there. In evaluation mode, later frames have no
                influence as long as they are finite: the result is that of each utterance alone, cut to its length. A
                length below ``min_frames`` counts as ``min_frames``.

        Returns:
            (N, ``embedding_size``).

        Raises:
            ValueError: If the shape is wrong, or if there are too few frames.
        """
        raise NotImplementedError

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute logits (N, C) from features (N, T, M); for ``lengths`` and errors see `embed`."""
        logits: Tensor = self.head(self.head_dropout(self.embed(features, lengths)))
        return logits

    def freeze(self, what: Freeze) -> None:
        """Exclude modules from training: no gradient, no dropout, batch norm with its stored statistics.

        Args:
            what: ``base``, all modules except the head; ``convolutions``, those below the transformer; or ``none``.

        Raises:
            UserError: If ``convolutions`` is asked for and the network has no transformer above them.
        """
        if what == "convolutions" and not self.convolutions:
            raise UserError(
                f"model.freeze=convolutions: {type(self).__name__} has no convolutions below a transformer. "
                "Choose base, which freezes all except the class head, or none."
            )
        children = [name for name, _ in self.named_children() if name not in ("head", "head_dropout")]
        self._frozen = {"none": (), "convolutions": self.convolutions, "base": tuple(children)}[what]
        for name in self._frozen:
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def rate_factor(self, parameter: str) -> float:
        """Return the factor on the learning rate of a parameter below the head, besides ``optimizer.base_lr_factor``.

        Args:
            parameter: Name of the parameter.
        """
        return 1.0

    def train(self, mode: bool = True) -> Classifier:
        """Set training or evaluation mode as in ``nn.Module``; frozen modules stay in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).eval()
        return self


def check_features(features: Tensor, bins: int, min_frames: int) -> None:
    """Raise a ``ValueError`` unless features are (N, T, ``bins``) with T ≥ ``min_frames``."""
    if features.ndim != 3 or features.shape[2] != bins:
        raise ValueError(f"features must be (N, T, {bins}), got {tuple(features.shape)}")
    if features.shape[1] < min_frames:
        raise ValueError(f"{features.shape[1]} frames are too few: at least {min_frames} are needed. Pad the clip.")


def check_width(width: object) -> float:
    """Return ``width`` as a float.

    Raises:
        UserError: If it is not a number in (0, 2].
    """
    if isinstance(width, bool) or not isinstance(width, Real) or not 0 < float(width) <= MAX_WIDTH:
        raise UserError(f"model.width must be a number > 0 and <= {MAX_WIDTH:g}, got {width!r}.")
    return float(width)


def scaled(counts: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Return channel counts multiplied by ``width`` and rounded, each at least 1.

    Raises:
        UserError: If ``width`` is not a number in (0, 2].
    """
    factor = check_width(width)
    return tuple(max(1, round(count * factor)) for count in counts)


def uploaded(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; the host does not wait for its copy to a GPU.

    Args:
        values: Tensor on any device; one on the CPU is copied from page-locked memory.
        device: Where it is needed.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def behind(lengths: Tensor, frames: int) -> Tensor:
    """Return the padding mask, (N, ``frames``): True for frames after the end of an utterance."""
    return torch.arange(frames, device=lengths.device) >= lengths[:, None]


def initialise(module: nn.Module) -> None:
    """Initialise a convolution or linear layer with Xavier uniform weights and zero biases.

    Other modules stay as they are, so that the function can be passed to ``nn.Module.apply``.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
