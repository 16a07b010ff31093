"""Predictions of a network for whole utterances, and their scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.metrics import classification
from ser.models import Classifier
from ser.training.batches import EVALUATION_BATCH, crop_frames, segments, valid_frames
from ser.training.device.features import DeviceFeatures
from ser.training.task import Subset

MIN_SEGMENT_SECONDS = 1.0


class SegmentedUtterances:
    """Utterances cut into consecutive segments, which are planned once and may be evaluated many times.

    Args:
        features: Features of the utterances.
        rows: (n,) utterances.
        frames: Length T of a segment.
    """

    def __init__(self, features: DeviceFeatures, rows: NDArray[np.int64], frames: int) -> None:
        store = features.store
        cut = segments(store.lengths[rows], frames, min(crop_frames(MIN_SEGMENT_SECONDS, store.front_end), frames))
        owners = rows[cut.owner]
        self.rows, self._owner = rows, cut.owner
        self._windows = features.windows(owners, cut.starts, frames)
        self._lengths = torch.from_numpy(valid_frames(store, owners, cut.starts, frames))

    def mean(self, compute: Callable[[Tensor, Tensor | None], Tensor], *, with_lengths: bool) -> NDArray[np.float64]:
        """Compute the mean over the segments of each utterance.

        Args:
            compute: Function of (S, T, M) segments on the device and their (S,) valid frames on the CPU, or None, to
                (S, K) values.
            with_lengths: Whether ``compute`` gets the valid frames.

        Returns:
            (n, K) float64.
        """
        lengths_of_batches = torch.split(self._lengths, EVALUATION_BATCH)
        batches = zip(self._windows.batches(EVALUATION_BATCH), lengths_of_batches, strict=True)
        outputs = [compute(batch, lengths if with_lengths else None).double() for batch, lengths in batches]
        found = torch.cat(outputs).cpu().numpy()
        sums = np.zeros((len(self.rows), found.shape[1]))
        np.add.at(sums, self._owner, found)
        return np.asarray(sums / np.bincount(self._owner)[:, None])


@torch.no_grad()
def predict(model: Classifier, utterances: SegmentedUtterances, autocast: torch.autocast) -> NDArray[np.float64]:
    """Predict class probabilities of utterances: the mean over all segments of each.

    Args:
        model: Network; left in evaluation mode.
        utterances: Utterances, whose features are on the device of the network.
        autocast: Precision of the computation.

    Returns:
        (n, C) float64, rows sum to 1.
    """
    model.eval()

    def probabilities(batch: Tensor, lengths: Tensor | None) -> Tensor:
        with autocast:
            logits: Tensor = model(batch, lengths)
        return logits.double().softmax(dim=1)

    means = utterances.mean(probabilities, with_lengths=model.masks_padding)
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
