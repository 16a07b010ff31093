"""What a training run is set up with: features, initial weights, targets and class weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ser.config import Config, ModelConfig
from ser.features.store import FeatureStore
from ser.labels import CONSENSUS, SOFT, LabelKind
from ser.losses import Loss, as_distribution
from ser.losses.registry import loss_class
from ser.models import Classifier, load_pretrained
from ser.models.encoders.network import Encoder
from ser.models.encoders.source import load
from ser.training.embeddings import device_of, extractor
from ser.training.task import Subset, Task
from ser.utils.errors import UserError


def open_features(config: Config, task: Task) -> FeatureStore:
    """Open the feature store of a task; embeddings may have been computed on any kind of device.

    Raises:
        UserError: The store cannot be opened, or holds another front end than the model reads.
    """
    store = FeatureStore.open(task.store)
    expected = extractor(config, device_of(store.front_end.name)).front_end.name
    if store.front_end.name != expected:
        raise UserError(
            f"model {config.model.name} reads front end {expected}, but the feature store {str(task.store)!r} holds "
            f"{store.front_end.name}. Build a store with the front end {expected} (ser.features.open_store)."
        )
    return store


def load_weights(model: Classifier, config: ModelConfig) -> None:
    """Load the published weights of a speech encoder, or ``model.pretrained`` if it is set, into a model.

    Raises:
        UserError: The file does not fit the model or its front end.
    """
    if isinstance(model, Encoder):
        model.load_published()
    elif config.pretrained:
        load_pretrained(model, config.pretrained, config.features)


def check_weights(config: ModelConfig) -> None:
    """Check a model's weights before features are computed: a speech encoder's, or ``model.pretrained``.

    Raises:
        UserError: They are not there, or do not fit the network or its front end.
    """
    with torch.device("meta"):
        model = config.build_network(num_classes=2)
    if isinstance(model, Encoder):
        load(model.files)
    else:
        load_weights(model, config)


def training_targets(loss: Loss | type[Loss], train: Subset) -> Tensor:
    """Return what a loss is trained on: the labels, or the annotators' distribution if either asks for soft targets.

    Args:
        loss: The loss, or its class.
        train: Training utterances.

    Returns:
        (n,) int64 labels, or (n, C) float32 distributions.

    Raises:
        UserError: The loss asks for soft targets, and the corpus has no votes.
    """
    if train.targets is not None:
        return torch.tensor(train.targets, dtype=torch.float32)
    if loss.targets == "noisy":
        return torch.tensor(train.noisy)
    if train.soft is None:
        raise UserError(
            "loss 'soft_labels' trains on the annotators' distribution, and the corpus has no votes. Choose another "
            "loss, or a corpus with votes."
        )
    return torch.tensor(train.soft, dtype=torch.float32)


def check_labels_fit(config: Config, kind: LabelKind) -> None:
    """Check that a configuration can train on a kind of labels.

    Args:
        config: Configuration.
        kind: Kind of training labels.

    Raises:
        UserError: A classical model needs one label for each utterance, or the loss reads the votes anyway.
    """
    if config.model.is_classical:
        if kind == SOFT:
            raise UserError(
                f"--labels soft: the classical model {config.model.name} takes one label for each utterance, not a "
                "distribution. Use --labels plurality or dawid_skene, or a network."
            )
    elif kind != CONSENSUS and loss_class(config.loss.name).targets == "soft":
        raise UserError(
            f"--labels {kind}: loss {config.loss.name!r} trains on the annotators' distribution, whatever the labels. "
            "Leave it out; with --labels soft, cross_entropy trains on the same."
        )


def inverse_frequencies(targets: Tensor, num_classes: int) -> Tensor:
    """Return the inverse frequency, among the targets, of each utterance's class.

    Args:
        targets: (n,) labels or (n, C) distributions; for these the inverse frequencies are averaged by share.
        num_classes: C.

    Returns:
        (n,) float64, 1 for all utterances if all classes are equally frequent.
    """
    shares = as_distribution(targets, num_classes).double()
    counts = shares.sum(dim=0)
    inverse = torch.where(counts > 0, len(targets) / (num_classes * counts), 0.0)
    return (shares * inverse).sum(dim=1)
