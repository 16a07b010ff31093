"""Linear probe: a linear classifier on stored embeddings of a frozen network.

The protocol is that of Alain and Bengio, "Understanding Intermediate Layers Using Linear Classifier Probes", 2016
(arXiv 1610.01644), applied to the last layer, as in HEAR's comparison of audio networks (Turian et al. 2022, arXiv
2203.03022).
"""

from __future__ import annotations

from torch import Tensor, nn

from ser.models.classifier import Classifier, check_features, initialise

LINEAR_PROBE = "embedding_head"
"""The value of ``model.name``. The spelling is stored in configurations and part of their fingerprints."""


class LinearProbe(Classifier):
    """The class head of a network without the network: embeddings (N, 1, E) to logits.

    The head equals that of the network: a linear layer after dropout with the network's rate. Its weights are drawn
    from torch's global generator: set its seed first.

    Args:
        num_classes: C, the number of outputs.
        network: The network whose embeddings are read; it may be on the meta device.
    """

    front_ends = ()

    def __init__(self, num_classes: int, network: Classifier) -> None:
        super().__init__(dropout=0.0)
        self.embedding_size = network.embedding_size
        self.head_dropout = nn.Dropout(network.head_dropout.p)
        self.head = nn.Linear(self.embedding_size, num_classes)
        self.head.apply(initialise)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the stored embeddings, (N, E), unchanged."""
        check_features(features, self.embedding_size, self.min_frames)
        return features[:, 0]
