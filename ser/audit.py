"""What a loss did to the labels during an epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from ser.losses import LossOutput


class Audit:
    """Accumulates shares over an epoch's training steps, on the device, without synchronising.

    A label is *changed* where argmax q̃ ≠ argmax q, and *corrected* where it is changed and argmax q̃ is the true
    label. A mislabelled utterance is *memorised* where the network predicts its wrong label.

    Args:
        num_classes: C.
        device: Where the batches are.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._confusion = torch.zeros((num_classes, num_classes), dtype=torch.float64, device=device)
        self._sums = torch.zeros(8, dtype=torch.float64, device=device)
        self._count = 0

    @torch.no_grad()
    def update(self, logits: Tensor, noisy: Tensor, truth: Tensor, output: LossOutput) -> None:
        """Adds one batch.

        Args:
            logits: (N, C).
            noisy: (N,) the labels that were trained on.
            truth: (N,) true labels, −1 where unknown.
            output: What the loss returned.
        """
        predicted = logits.argmax(dim=1)
        changed_to = output.corrected_targets.argmax(dim=1)
        known = truth >= 0
        changed = changed_to != noisy
        mislabelled = known & (truth != noisy)
        self._count += len(noisy)
        self._sums += torch.stack(
            [
                output.per_sample.detach().double().sum(),
                output.trust.double().sum(),
                changed.sum(),
                known.sum(),
                (changed & known).sum(),
                (changed & known & (changed_to == truth)).sum(),
                mislabelled.sum(),
                (mislabelled & (predicted == noisy)).sum(),
            ]
        )
        size = len(self._confusion)
        self._confusion += torch.bincount(noisy * size + predicted, minlength=size * size).view(size, size)

    def metrics(self) -> dict[str, float]:
        """The epoch's shares; those that need a true label, or a mislabelled utterance, only where there is one.

        Returns:
            ``loss``, ``trust``, ``uar``, ``f1_weighted`` (against the noisy labels), ``labels_changed``,
            ``labels_corrected``, ``correction_precision``, ``correction_recall``, ``memorised``.
        """
        loss, trust, changed, known, judged, corrected, mislabelled, memorised = self._sums.tolist()
        count = self._count
        result = {"loss": loss / count, "trust": trust / count, "labels_changed": changed / count}
        support, hits = self._confusion.sum(dim=1), self._confusion.diagonal()
        present = support > 0
        f1 = 2 * hits / (support + self._confusion.sum(dim=0)).clamp(min=1)
        result["uar"] = float((hits[present] / support[present]).mean())
        result["f1_weighted"] = float((f1 * support).sum() / support.sum())
        if known:
            result["labels_corrected"] = corrected / count
        if judged:
            result["correction_precision"] = corrected / judged
        if mislabelled:
            result["correction_recall"] = corrected / mislabelled
            result["memorised"] = memorised / mislabelled
        return result
