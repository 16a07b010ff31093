"""A linear classifier on stored embeddings of a frozen network: linear probing.

The protocol of Alain and Bengio, "Understanding Intermediate Layers Using Linear Classifier Probes", 2016 (arXiv
1610.01644), on the last layer, as audio networks are compared in HEAR (Turian et al. 2022, arXiv 2203.03022).
"""

from __future__ import annotations

from torch import Tensor, nn

from ser.models.classifier import Classifier, check_features, initialise

EMBEDDING_HEAD = "embedding_head"
"""Its name as a model."""


class EmbeddingHead(Classifier):
    """Embeddings (N, 1, E) to logits: the class head of a network, without the network.

    The head is as that of the network itself: linear, behind dropout of the network's rate. Its weights are drawn
    from torch's global generator: seed it first.

    Args:
        num_classes: C, the outputs of ``head``.
        network: Whose embeddings it reads; one on the meta device serves as well.
    """

    front_ends = ()
    min_frames = 1

    def __init__(self, num_classes: int, network: Classifier) -> None:
        super().__init__(dropout=0.0)
        self.embedding_size = network.embedding_size
        self.head_dropout = nn.Dropout(network.head_dropout.p)
        self.head = nn.Linear(self.embedding_size, num_classes)
        self.head.apply(initialise)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The embeddings (N, E) as they were stored."""
        check_features(features, self.embedding_size, self.min_frames)
        return features[:, 0]
