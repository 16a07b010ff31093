"""What a loss did to the labels: metrics of an epoch, and the last output for each utterance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ser.losses import LossOutput
from ser.training.utterance_table import LastSeen

NEVER = torch.iinfo(torch.int64).max
TRUST_BINS = 100
TRUST_QUANTILES = (0.1, 0.5, 0.9)


def changed_labels(noisy: Tensor, output: LossOutput, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the corrected labels of a batch, and which of them differ from what the loss was given.

    Args:
        noisy: (N,) noisy labels.
        output: Output of the loss.
        targets: (N,) or (N, C), the targets q of the loss if they are not ``noisy``.

    Returns:
        (N,) labels: argmax q̃ where it differs from argmax q, else the noisy label; and (N,) whether it differs.
    """
    given = noisy if targets is None else targets.argmax(dim=1) if targets.ndim == 2 else targets
    changed_to = output.corrected_targets.argmax(dim=1)
    changed = changed_to != given
    return torch.where(changed, changed_to, noisy), changed


class BatchLog:
    """Outputs of network and loss in the training steps of an epoch, kept on the device.

    Metrics are computed from all of them at once, after the epoch. A step only writes its rows into a buffer, which is
    made in the first step and serves all epochs.

    Args:
        size: Largest number of samples in an epoch.
    """

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        # Logits, corrected targets, loss and trust in one tensor, so that there is one write.
        self._buffer: Tensor | None = None

    @torch.no_grad()
    def add(self, logits: Tensor, output: LossOutput) -> None:
        """Add one batch.

        Args:
            logits: (N, C).
            output: Output of the loss.
        """
        numbers = (output.per_sample.unsqueeze(1), output.trust.unsqueeze(1))
        columns = [tensor.detach() for tensor in (logits, output.corrected_targets, *numbers)]
        if self._buffer is None:
            self._buffer = torch.cat(columns, dim=1).new_empty((self._size, sum(part.shape[1] for part in columns)))
        torch.cat(columns, dim=1, out=self._buffer[self._count : self._count + len(logits)])
        self._count += len(logits)

    def joined(self) -> tuple[Tensor, LossOutput]:
        """Return all batches as one, without gradient: logits (N, C) and the output of the loss; begin a new epoch."""
        assert self._buffer is not None
        rows, self._count = self._buffer[: self._count], 0
        logits, corrected = rows[:, :-2].chunk(2, dim=1)
        per_sample, trust = rows[:, -2].contiguous(), rows[:, -1].contiguous()
        return logits.contiguous(), LossOutput(per_sample.mean(), per_sample, corrected.contiguous(), trust)


class LabelMetrics:
    """Label-correction metrics of an epoch, accumulated on the device without synchronising.

    A label is *changed* where argmax q̃ ≠ argmax q, and *corrected* where it is changed and argmax q̃ is the true
    label. An utterance is *mislabelled* where its noisy label is not the true one, *clean* where it is; a mislabelled
    utterance is *memorised* where the network predicts its wrong label.

    Args:
        num_classes: C.
        device: Device of the batches.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._confusion = torch.zeros((num_classes, num_classes), dtype=torch.float64, device=device)
        self._sums = torch.zeros(10, dtype=torch.float64, device=device)
        # By bin of trust: number of utterances, and sum of their trust.
        self._trust = torch.zeros((2, TRUST_BINS), dtype=torch.float64, device=device)
        self._count = 0

    @torch.no_grad()
    def update(
        self, logits: Tensor, noisy: Tensor, truth: Tensor, output: LossOutput, targets: Tensor | None = None
    ) -> None:
        """Add one batch.

        Args:
            logits: (N, C).
            noisy: (N,) noisy labels.
            truth: (N,) true labels, −1 where unknown.
            output: Output of the loss.
            targets: (N,) or (N, C), the targets q of the loss if they are not ``noisy``.
        """
        predicted = logits.argmax(dim=1)
        changed_to, changed = changed_labels(noisy, output, targets)
        known = truth >= 0
        right = predicted == truth  # False where the truth is unknown
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
                (mislabelled & right).sum(),
                (right & ~mislabelled).sum(),
            ]
        )
        trust = output.trust.double()
        ones = torch.ones_like(trust)
        # Unlike bincount, index_add_ does not synchronise to find the largest index.
        self._confusion.view(-1).index_add_(0, noisy * len(self._confusion) + predicted, ones)
        bins = (trust * TRUST_BINS).long().clamp(0, TRUST_BINS - 1)
        self._trust.index_add_(1, bins, torch.stack([ones, trust]))

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of all batches.

        Returns:
            ``loss`` and ``trust`` (means), ``trust_q10``, ``trust_q50``, ``trust_q90`` (quantiles, accurate to 0.01),
            ``uar`` and ``f1_weighted`` (against the noisy labels) and the share ``labels_changed``. Where true labels
            are known: the share ``labels_corrected``, ``correction_precision`` (of changed labels),
            ``correction_recall`` and ``memorised`` (of mislabelled utterances), and the accuracy against true labels
            of clean and of mislabelled utterances, ``accuracy_clean`` and ``accuracy_mislabelled``. A metric whose
            denominator is 0 is left out.
        """
        # One copy from the device instead of one for each number.
        values = torch.cat([self._sums, self._confusion.flatten(), self._trust.flatten()]).cpu()
        sums, cells, bins = torch.split(values, [len(self._sums), self._confusion.numel(), self._trust.numel()])
        confusion = cells.view_as(self._confusion)
        (
            loss, trust, changed, known, judged, corrected, mislabelled, memorised, right_mislabelled, right_clean,
        ) = sums.tolist()  # fmt: skip
        count = self._count
        result = {"loss": loss / count, "trust": trust / count, "labels_changed": changed / count}
        result |= self._trust_quantiles(bins.view_as(self._trust))
        support, hits = confusion.sum(dim=1), confusion.diagonal()
        present = support > 0
        f1 = 2 * hits / (support + confusion.sum(dim=0)).clamp(min=1)
        result["uar"] = float((hits[present] / support[present]).mean())
        result["f1_weighted"] = float((f1 * support).sum() / support.sum())
        if known:
            result["labels_corrected"] = corrected / count
        if judged:
            result["correction_precision"] = corrected / judged
        if mislabelled:
            result["correction_recall"] = corrected / mislabelled
            result["memorised"] = memorised / mislabelled
            result["accuracy_mislabelled"] = right_mislabelled / mislabelled
        if known > mislabelled:
            result["accuracy_clean"] = right_clean / (known - mislabelled)
        return result

    def _trust_quantiles(self, bins: Tensor) -> dict[str, float]:
        """Return each quantile as the mean trust of its bin, which is exact for a constant trust."""
        counts, sums = bins
        reached = counts.cumsum(0) / self._count
        found = {}
        for share in TRUST_QUANTILES:
            # The last bin always qualifies, whatever the rounding of the shares.
            place = int((reached[:-1] < share - 1e-9).sum())
            found[f"trust_q{share * 100:.0f}"] = float(sums[place] / counts[place])
        return found


class UtteranceLog:
    """Last output of network and loss for each training utterance, kept on the device without synchronising.

    Of an utterance that is drawn several times in an epoch, the last draw counts; one that is not drawn keeps its
    earlier values.

    Args:
        num_samples: Number n of training utterances.
        num_classes: C.
        device: Device of the batches.
    """

    def __init__(self, num_samples: int, num_classes: int, device: torch.device) -> None:
        # Probabilities, corrected label, share kept and trust in one tensor, so that there is one write.
        self._last = torch.full((num_samples, num_classes + 3), torch.nan, device=device)
        self._first_changed = torch.full((num_samples,), NEVER, device=device)

    @torch.no_grad()
    def update(
        self,
        index: Tensor,
        logits: Tensor,
        noisy: Tensor,
        output: LossOutput,
        epoch: int,
        targets: Tensor | None = None,
    ) -> None:
        """Add one batch.

        Args:
            index: (N,) positions in the training subset, possibly repeated.
            logits: (N, C).
            noisy: (N,) noisy labels.
            output: Output of the loss.
            epoch: Number of the epoch, from 1.
            targets: (N,) or (N, C), the targets q of the loss if they are not ``noisy``.
        """
        corrected, changed = changed_labels(noisy, output, targets)
        kept = output.corrected_targets.gather(1, noisy.unsqueeze(1))
        columns = (logits.float().softmax(dim=1), corrected.unsqueeze(1), kept, output.trust.unsqueeze(1))
        values = torch.cat([column.float() for column in columns], dim=1)
        # On a GPU, two writes to one row happen in any order, so both write the values of the later draw.
        place = torch.arange(len(index), device=index.device)
        latest = torch.full_like(self._first_changed, -1).scatter_reduce_(0, index, place, "amax")[index]
        self._last.index_copy_(0, index, values[latest])
        self._first_changed.scatter_reduce_(0, index, torch.where(changed, epoch, NEVER), "amin")

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors themselves, not copies: ``last`` (n, C + 3) and ``first_changed`` (n,)."""
        return {"last": self._last, "first_changed": self._first_changed}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors of a ``state_dict``."""
        self._last.copy_(state["last"])
        self._first_changed.copy_(state["first_changed"])

    def last_seen(self) -> LastSeen:
        """Return copies of all values as arrays."""
        last, first = self._last.cpu().numpy().copy(), self._first_changed.cpu().numpy()
        corrected = np.nan_to_num(last[:, -3], nan=-1).astype(np.int64)
        return LastSeen(last[:, :-3], corrected, last[:, -2], last[:, -1], np.where(first == NEVER, 0, first))
