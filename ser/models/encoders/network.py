"""A speech encoder of the transformers library as a network: the waveform to hidden states, embedding and logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ser.models.classifier import Classifier, Freeze, check_features, initialise
from ser.models.encoders import source
from ser.models.encoders.parameters import EncoderParameters
from ser.models.encoders.source import EncoderFiles


class Encoder(Classifier):
    """A speech encoder with a class head on the pooled frames of its last layer.

    Args:
        files: Files of the encoder.
        num_classes: C, the outputs of ``head``.
        dropout: Factor on the published dropout rates, in [0, 1].
        parameters: Keys that encoders have besides those of all models.

    Attributes:
        encoder: The encoder as transformers builds it.
        layers: L, the number of transformer layers; there are L + 1 hidden states.
        hidden_size: E, channels of a hidden state.

    Raises:
        UserError: A parameter is out of range.
    """

    front_end = "waveform_16k"
    front_ends = ("waveform_16k",)
    min_frames = 400
    masks_padding = True
    encoder: Any

    def __init__(
        self,
        files: EncoderFiles,
        num_classes: int,
        dropout: float = 1.0,
        parameters: EncoderParameters = EncoderParameters(),  # noqa: B008  it is frozen
    ) -> None:
        super().__init__(dropout)
        self.files, self.parameters_of = files, parameters
        self.encoder = source.build(files)
        self.layers, self.hidden_size = source.size(files)
        self.embedding_size = self.hidden_size * (2 if parameters.pooling == "mean_std" else 1)
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(self.embedding_size, num_classes)
        self.head.apply(initialise)

    def load_published(self) -> None:
        """Load the published weights; the class head keeps its own.

        Raises:
            UserError: The weights do not fit, or cannot be read.
        """
        self.encoder.load_state_dict(source.load(self.files).state_dict())

    def hidden_states(self, features: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute all hidden states.

        Args:
            features: (N, T, 1) waveforms at 16 kHz, full scale ±1.
            lengths: (N,) numbers of valid samples; None if all are valid.

        Returns:
            (L + 1, N, F, E) states, the input of the transformer first, and (N, F) whether a frame is valid.
        """
        check_features(features, 1, self.min_frames)
        waveform = features.squeeze(2)
        waveform = (waveform - waveform.mean(dim=1, keepdim=True)) / (
            waveform.var(1, correction=0, keepdim=True) + 1e-7
        ).sqrt()
        states = torch.stack(self.encoder(waveform, output_hidden_states=True).hidden_states)
        return states, states.new_ones(states.shape[1:3], dtype=torch.bool)

    def statistics(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute mean and standard deviation of each hidden state over the valid frames.

        Args:
            features: (N, T, 1) waveforms.
            lengths: (N,) numbers of valid samples; None if all are valid.

        Returns:
            (N, 2, L + 1, E) float32.
        """
        states, _ = self.hidden_states(features, lengths)
        states = states.float()
        return torch.stack([states.mean(dim=2), states.std(dim=2, correction=0)]).permute(2, 0, 1, 3)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pool the last hidden state of waveforms (N, T, 1) to (N, ``embedding_size``)."""
        last = self.statistics(features, lengths)[:, :, -1]
        return last.flatten(1) if self.parameters_of.pooling == "mean_std" else last[:, 0]

    def freeze(self, what: Freeze) -> None:
        """Exclude modules from training; see `Classifier.freeze`."""
        super().freeze(what)
