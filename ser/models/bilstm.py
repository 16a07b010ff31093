"""A bidirectional LSTM on log-mel spectrograms, the small recurrent model of the study that this one follows.

That study uses three layers of 150 units per direction on normalised 128-bin log-mels, the mean over time, and a linear
layer. Here the input has the 64 bins of the front ends of PANNs, so that all models read the same feature store, and a
batch norm normalises each bin, as in PANNs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ser.models.classifier import Classifier, behind, check_features, initialise, scaled, uploaded

MEL_BINS = 64
UNITS = 150
LAYERS = 3


class BiLstm(Classifier):
    """Bidirectional LSTM (Schuster and Paliwal 1997) on log-mel spectrograms with a mean over time.

    Initial weights of the LSTM are uniform within ±1/√units, from torch's global generator: set its seed first. With
    ``lengths``, neither direction reads frames after the end of an utterance. In training, the statistics of ``bn0``
    still include them.

    Args:
        num_classes: C, the number of outputs.
        width: Factor on the 150 units per direction, in (0, 2].
        dropout: In [0, 1]; without effect, because the network has no dropout.

    Raises:
        UserError: If ``width`` or ``dropout`` is out of range.
    """

    masks_padding = True

    def __init__(self, num_classes: int, width: float = 1.0, dropout: float = 1.0) -> None:
        super().__init__(dropout)
        (units,) = scaled((UNITS,), width)
        self.embedding_size = 2 * units
        inputs = (MEL_BINS, *(self.embedding_size,) * (LAYERS - 1))
        self.bn0 = nn.BatchNorm1d(MEL_BINS)
        # Two one-way LSTMs per layer. torch's bidirectional LSTM needs packed sequences for lengths, which takes five
        # times as long on a CPU.
        self.onward = nn.ModuleList(nn.LSTM(size, units, batch_first=True) for size in inputs)
        self.reverse = nn.ModuleList(nn.LSTM(size, units, batch_first=True) for size in inputs)
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(self.embedding_size, num_classes)
        self.head.apply(initialise)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the mean over time of the forward and then the backward units.

        Args:
            features: Log-mels in dB, (N, T, 64).
            lengths: See `Classifier.embed`.

        Returns:
            (N, 300 · width).
        """
        check_features(features, MEL_BINS, self.min_frames)
        count, frames, _ = features.shape
        if lengths is None:
            lengths = torch.full((count,), frames, device=features.device)
        valid = uploaded(lengths, features.device).clamp(self.min_frames, frames)
        beyond = behind(valid, frames)
        position = torch.arange(frames, device=features.device)
        order = torch.where(beyond, position, valid[:, None] - 1 - position)[:, :, None]
        x = self.bn0(features.transpose(1, 2)).transpose(1, 2)
        for onward, backward in zip(self.onward, self.reverse, strict=True):
            reversed_output = backward(x.take_along_dim(order, dim=1))[0]
            x = torch.cat([onward(x)[0], reversed_output.take_along_dim(order, dim=1)], dim=2)
        mean: Tensor = x.masked_fill(beyond[:, :, None], 0.0).sum(dim=1) / valid[:, None]
        return mean
