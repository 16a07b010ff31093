"""CNN14 of PANNs: fourteen layers on log-mel spectrograms, with the published parameter names.

Source: Kong et al., PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition,
IEEE/ACM TASLP 28, 2020 (arXiv 1912.10211).
"""

from __future__ import annotations

from numbers import Real

import torch.nn.functional as F
from torch import Tensor, nn

from ser.errors import UserError

MEL_BINS = 64
MIN_FRAMES = 32  # five halvings in time
MAX_WIDTH = 2.0
BLOCK_DROPOUT = 0.2
EMBEDDING_DROPOUT = 0.5


class ConvBlock(nn.Module):
    """Two 3×3 convolutions without bias, each with batch norm and ReLU; time and mel keep their size.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels after either convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, in_channels, T, M) → (N, out_channels, T, M)."""
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class Cnn14(nn.Module):
    """Log-mel spectrograms to logits. Dropout is the published .2 after each block and .5 around ``fc1``.

    Weights are drawn from torch's global generator (Xavier uniform, biases 0): seed it first. All
    parameters but ``head`` bear PANNs' names, and a published checkpoint fits at width 1.

    Args:
        num_classes: C, the outputs of ``head``.
        width: Factor on every layer's channels, in (0, 2]; .25 and .125 train on a laptop.
        dropout: Factor on the published dropout rates, in [0, 1]. They are made for width 1 and AudioSet; a narrow
            network trained from scratch hardly learns under them.

    Attributes:
        embedding_size: Length of an embedding, 2048 · width.

    Raises:
        UserError: ``width`` or ``dropout`` is out of range.
    """

    def __init__(self, num_classes: int, width: float = 1.0, dropout: float = 1.0) -> None:
        super().__init__()
        if not 0 <= dropout <= 1:
            raise UserError(f"model dropout is {dropout}; it scales the published rates and must be in [0, 1].")
        c1, c2, c3, c4, c5, c6 = scaled_channels((64, 128, 256, 512, 1024, 2048), width)
        self.embedding_size = c6
        self.block_dropout = BLOCK_DROPOUT * dropout
        self.embedding_dropout = EMBEDDING_DROPOUT * dropout
        self.bn0 = nn.BatchNorm1d(MEL_BINS)
        self.conv_block1 = ConvBlock(1, c1)
        self.conv_block2 = ConvBlock(c1, c2)
        self.conv_block3 = ConvBlock(c2, c3)
        self.conv_block4 = ConvBlock(c3, c4)
        self.conv_block5 = ConvBlock(c4, c5)
        self.conv_block6 = ConvBlock(c5, c6)
        self.fc1 = nn.Linear(c6, c6)
        self.head = nn.Linear(c6, num_classes)
        self.apply(_initialise)

    def embed(self, log_mel: Tensor) -> Tensor:
        """The embedding: ``fc1``'s activations.

        Args:
            log_mel: (N, T, 64) with T ≥ 32 frames, in dB.

        Returns:
            (N, ``embedding_size``), non-negative.

        Raises:
            ValueError: Another shape, or too few frames.
        """
        check_log_mel(log_mel)
        x = self.bn0(log_mel.transpose(1, 2)).transpose(1, 2).unsqueeze(1)
        for block in (
            self.conv_block1,
            self.conv_block2,
            self.conv_block3,
            self.conv_block4,
            self.conv_block5,
        ):
            x = F.dropout(F.avg_pool2d(block(x), 2), self.block_dropout, self.training)
        x = F.dropout(self.conv_block6(x), self.block_dropout, self.training)
        x = x.mean(dim=3)  # over mel: (N, channels, T / 32)
        x = x.amax(dim=2) + x.mean(dim=2)
        x = F.dropout(x, self.embedding_dropout, self.training)
        return F.relu(self.fc1(x))

    def forward(self, log_mel: Tensor) -> Tensor:
        """Log-mel (N, T, 64) → logits (N, C); see `embed` for what raises."""
        x: Tensor = self.head(F.dropout(self.embed(log_mel), self.embedding_dropout, self.training))
        return x


def scaled_channels(channels: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Channel counts times ``width``, rounded, at least 1.

    Args:
        channels: The published counts.
        width: In (0, 2].

    Returns:
        As many counts.

    Raises:
        UserError: ``width`` is no number or out of range.
    """
    _check_width(width)
    return tuple(max(1, round(count * width)) for count in channels)


def check_log_mel(log_mel: Tensor) -> None:
    """Refuses what is not (N, T, 64) with T ≥ 32.

    Raises:
        ValueError: With the shape found and the one wanted.
    """
    if log_mel.ndim != 3 or log_mel.shape[2] != MEL_BINS:
        raise ValueError(f"log-mel must be (N, T, {MEL_BINS}), got {tuple(log_mel.shape)}")
    if log_mel.shape[1] < MIN_FRAMES:
        raise ValueError(
            f"{log_mel.shape[1]} frames are too few: five poolings need at least {MIN_FRAMES} (.32 s). Pad the clip."
        )


def _check_width(width: object) -> None:
    if isinstance(width, bool) or not isinstance(width, Real) or not 0 < float(width) <= MAX_WIDTH:
        raise UserError(f"model width must be a number > 0 and <= {MAX_WIDTH:g}, got {width!r}.")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
