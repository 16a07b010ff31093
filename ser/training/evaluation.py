"""Predictions of a network for whole utterances, and their scores."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.features.store import FeatureStore
from ser.metrics import classification
from ser.models import Classifier
from ser.training.batches import mean_over_segments
from ser.training.task import Subset


@torch.no_grad()
def predict(
    model: Classifier,
    store: FeatureStore,
    rows: NDArray[np.int64],
    frames: int,
    device: torch.device,
    autocast: torch.autocast,
) -> NDArray[np.float64]:
    """Predict class probabilities of utterances: the mean over all segments of each.

    Args:
        model: Network; left in evaluation mode.
        store: Feature store.
        rows: (n,) utterances.
        frames: Length of a segment.
        device: Device of the model.
        autocast: Precision of the computation.

    Returns:
        (n, C) float64, rows sum to 1.
    """
    model.eval()

    def probabilities(batch: Tensor, lengths: Tensor | None) -> Tensor:
        with autocast:
            logits: Tensor = model(batch.to(device), lengths)
        return logits.double().softmax(dim=1)

    means = mean_over_segments(probabilities, store, rows, frames, with_lengths=model.masks_padding)
    return np.asarray(means / means.sum(axis=1, keepdims=True))


def subset_metrics(prefix: str, probabilities: NDArray[np.float64], subset: Subset) -> dict[str, float]:
    """Score predictions against the true labels, the noisy ones and the annotators' distribution.

    Args:
        prefix: ``"val"`` or ``"test"``.
        probabilities: (n, C) for the utterances of the subset.
        subset: The subset.

    Returns:
        ``PREFIX/*`` against true labels where all are known; ``PREFIX/soft_ce``, ``PREFIX/jsd`` and
        ``PREFIX/f1_macro_votes`` against the annotators' distribution where there are votes; and ``PREFIX_noisy/uar``
        against noisy labels.
    """
    metrics = {f"{prefix}_noisy/uar": classification.scores(probabilities, subset.noisy)["uar"]}
    if (subset.truth >= 0).all():
        scores = classification.scores(probabilities, subset.truth)
        metrics |= {f"{prefix}/{name}": value for name, value in scores.items()}
    if subset.soft is not None:
        soft_scores = classification.soft_scores(probabilities, subset.soft)
        metrics |= {f"{prefix}/{name}": value for name, value in soft_scores.items()}
    return metrics


def test_metrics(prefix: str, probabilities: NDArray[np.float64], subset: Subset) -> dict[str, float]:
    """Score predictions for test utterances against the true labels and the annotators' distribution.

    Args:
        prefix: ``"test/last"``, ``"test/best"`` or ``"test/stopped"``.
        probabilities: (n, C) for the utterances of the subset.
        subset: Test subset, whose labels are never corrupted.

    Returns:
        ``PREFIX/*``, as ``subset_metrics`` names them; empty where not all true labels are known.
    """
    found = subset_metrics("test", probabilities, subset)
    return {
        f"{prefix}/{name.removeprefix('test/')}": value for name, value in found.items() if name.startswith("test/")
    }
