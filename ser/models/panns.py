"""CNN14, CNN10 and CNN6 of PANNs on log-mel spectrograms, with the published parameter names.

Source: Kong et al., PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition,
IEEE/ACM TASLP 28, 2020 (arXiv 1912.10211).
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ser.models.classifier import Classifier, behind, check_features, initialise, scaled, uploaded
from ser.models.layers import Dropout, batch_norm_relu, convolve_3x3

MEL_BINS = 64
BLOCK_DROPOUT = 0.2
EMBEDDING_DROPOUT = 0.5


class ConvBlock(nn.Module):
    """Two 3×3 convolutions without bias, each with batch norm and ReLU, that keep the size in time and mel.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of both outputs.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map features (N, in_channels, T, M), zero after ``valid`` (N,) frames, to (N, out_channels, T, M)."""
        x = _zeroed(batch_norm_relu(convolve_3x3(x, self.conv1), self.bn1), valid)
        return batch_norm_relu(convolve_3x3(x, self.conv2), self.bn2)


class ConvBlock5x5(nn.Module):
    """One 5×5 convolution without bias, with batch norm and ReLU, that keeps the size in time and mel.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map features (N, in_channels, T, M), zero after ``valid`` (N,) frames, to (N, out_channels, T, M)."""
        return batch_norm_relu(self.conv1(x), self.bn1)


class Panns(Classifier):
    """Base class of the three: blocks of convolutions and pooling, mean over mel, maximum plus mean over time, ``fc1``.

    Dropout has the published rates, .2 after each block and .5 around ``fc1``. Weights are drawn from torch's global
    generator (Xavier uniform, biases 0): set its seed first. All parameters except those of ``head`` have their PANNs
    names, and a published checkpoint fits at width 1.

    With ``lengths``, activations after the end of an utterance are set to 0 before every convolution, as the padding of
    the convolution is. A pooled frame counts as valid if all frames that it averages are. In training, the statistics
    of the batch norms still include frames after the end.

    Args:
        num_classes: C, the number of outputs.
        width: Factor on the channels of every layer, in (0, 2]; networks of width .25 and .125 train on a laptop.
        dropout: Factor on the published dropout rates, in [0, 1]. The rates are meant for width 1 and AudioSet; with
            them a narrow network hardly learns from scratch.

    Attributes:
        channels: Published number of channels of each block.
        halvings: Number of blocks, from the first, that are followed by 2×2 average pooling.

    Raises:
        UserError: If ``width`` or ``dropout`` is out of range.
    """

    channels: ClassVar[tuple[int, ...]]
    halvings: ClassVar[int]
    block: ClassVar[type[ConvBlock] | type[ConvBlock5x5]]

    def __init__(self, num_classes: int, width: float = 1.0, dropout: float = 1.0) -> None:
        super().__init__(dropout)
        channels = scaled(self.channels, width)
        self.embedding_size = channels[-1]
        self.bn0 = nn.BatchNorm1d(MEL_BINS)
        for number, (before, after) in enumerate(pairwise((1, *channels)), start=1):
            self.add_module(f"conv_block{number}", self.block(before, after))
        self.block_dropout = Dropout(BLOCK_DROPOUT * dropout)
        self.embedding_dropout = Dropout(EMBEDDING_DROPOUT * dropout)
        self.fc1 = nn.Linear(self.embedding_size, self.embedding_size)
        self.head_dropout = Dropout(EMBEDDING_DROPOUT * dropout)
        self.head = nn.Linear(self.embedding_size, num_classes)
        self.apply(initialise)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the activations of ``fc1``.

        Args:
            features: Log-mels in dB, (N, T, 64).
            lengths: See `Classifier.embed`.

        Returns:
            (N, ``embedding_size``), non-negative.
        """
        check_features(features, MEL_BINS, self.min_frames)
        valid = None
        if lengths is not None:
            valid = uploaded(lengths, features.device).clamp(self.min_frames, features.shape[1])
        x = _zeroed(self.bn0(features.transpose(1, 2)).transpose(1, 2).unsqueeze(1), valid)
        for number in range(1, len(self.channels) + 1):
            x = self.get_submodule(f"conv_block{number}")(x, valid)
            if number <= self.halvings:
                x = F.avg_pool2d(x, 2)
                valid = None if valid is None else valid // 2
            x = self.block_dropout(_zeroed(x, valid))
        x = x.mean(dim=3)  # over mel: (N, channels, frames)
        # Activations are not negative, so that the zeros after the end do not change the maximum.
        mean = x.mean(dim=2) if valid is None else x.sum(dim=2) / valid[:, None]
        x = self.embedding_dropout(x.amax(dim=2) + mean)
        return F.relu(self.fc1(x))


class Cnn14(Panns):
    """CNN14: six blocks of two 3×3 convolutions, five halvings, embeddings of 2048 · width. See `Panns`.

    Example:
        >>> import torch
        >>> model = Cnn14(num_classes=4, width=1 / 32).eval()
        >>> log_mel = torch.zeros(2, 100, 64)
        >>> model(log_mel).shape, model.embed(log_mel).shape
        (torch.Size([2, 4]), torch.Size([2, 64]))
    """

    channels = (64, 128, 256, 512, 1024, 2048)
    halvings = 5
    min_frames = 32
    block = ConvBlock


class Cnn10(Panns):
    """CNN10: four blocks of two 3×3 convolutions, four halvings, embeddings of 512 · width. See `Panns`."""

    channels = (64, 128, 256, 512)
    halvings = 4
    min_frames = 16
    block = ConvBlock


class Cnn6(Panns):
    """CNN6: four blocks of one 5×5 convolution, four halvings, embeddings of 512 · width. See `Panns`."""

    channels = (64, 128, 256, 512)
    halvings = 4
    min_frames = 16
    block = ConvBlock5x5


def _zeroed(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return x, (N, channels, T, M), with zeros after the valid frames."""
    if valid is None:
        return x
    # Multiplication is several times as fast as masked_fill here.
    return x * (~behind(valid, x.shape[2])[:, None, :, None]).to(x.dtype)
