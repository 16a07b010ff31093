"""The head that is trained on the stored layers of a frozen encoder: a learned weighted sum, then a linear layer.

Source of the weighted sum: Yang et al., "SUPERB: Speech Processing Universal PERformance Benchmark", Interspeech 2021
(arXiv 2105.01051). The mean over frames and the weighted sum commute, so that a head on stored means computes what
SUPERB's computes on frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser.models.classifier import Classifier, Freeze, check_features, initialise
from ser.models.encoders.parameters import LAST, WEIGHTED, EncoderParameters
from ser.utils.errors import UserError

DROPOUT = 0.2


class LayerHead(Classifier):
    """Class head on the pooled layers of a frozen encoder: rows (N, 1, 2 · (L + 1) · E) of its feature store to logits.

    The layers are summed with weights that a softmax of ``layer_weights`` gives (or one layer is taken), the sum is
    standardised per channel as batch norm does, without gain and bias, and a linear layer follows.

    Args:
        num_classes: C, the outputs of ``head``.
        layers: L, the transformer layers of the encoder.
        hidden_size: E, channels of a layer.
        parameters: Which layers and which statistics are read.
        dropout: Factor on the dropout rate of .2 before ``head``, in [0, 1].

    Raises:
        UserError: The encoder has no such layer.
    """

    front_ends = ()
    head_names = ("head", "layer_weights")

    def __init__(
        self, num_classes: int, layers: int, hidden_size: int, parameters: EncoderParameters, dropout: float = 1.0
    ) -> None:
        super().__init__(dropout)
        self.shape = (2, layers + 1, hidden_size)
        self.statistics = 2 if parameters.pooling == "mean_std" else 1
        self.layer = _position(parameters.layers, layers)
        if self.layer is None:
            self.layer_weights = nn.Parameter(torch.zeros(layers + 1))
        self.embedding_size = self.statistics * hidden_size
        self.norm = Standardise(self.embedding_size)
        self.head_dropout = nn.Dropout(DROPOUT * dropout)
        self.head = nn.Linear(self.embedding_size, num_classes)
        self.head.apply(initialise)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the standardised weighted sum, (N, ``embedding_size``), of stored layers (N, 1, 2 · (L + 1) · E)."""
        check_features(features, self.shape[0] * self.shape[1] * self.shape[2], self.min_frames)
        pooled = features.view(len(features), *self.shape)[:, : self.statistics]
        if self.layer is None:
            shares = self.layer_weights.softmax(dim=0)
            summed = (shares[:, None] * pooled).sum(dim=2)  # which autocast leaves in float32
        else:
            summed = pooled[:, :, self.layer]
        standardised: Tensor = self.norm(summed.flatten(1))
        return standardised

    def freeze(self, what: Freeze) -> None:
        """Freeze nothing: ``base`` is the encoder that computed the stored layers, and no part of this network.

        Args:
            what: As for `Classifier.freeze`.
        """


class Standardise(nn.BatchNorm1d):
    """Batch norm without gain and bias, which also takes a batch of one: it is standardised as in evaluation."""

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False)

    def forward(self, input: Tensor) -> Tensor:
        """Standardise (N, ``size``)."""
        if self.training and len(input) == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(input)


def _position(layers: str, count: int) -> int | None:
    """Return the index of the one layer to read, or None for a weighted sum of all."""
    if layers == WEIGHTED:
        return None
    position = count if layers == LAST else int(layers)
    if position > count:
        raise UserError(f"model.layers is {layers}, but the encoder has layers 0 to {count}. Choose one of these.")
    return position
