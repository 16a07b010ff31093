"""What a loss did to the labels: shares over an epoch, and the last of each utterance."""

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
    """What the loss made of a batch's labels.

    Args:
        noisy: (N,) noisy labels.
        output: What the loss returned.
        targets: q, (N,) or (N, C), what the loss was given, where that was not ``noisy``.

    Returns:
        (N,) labels, argmax q̃ where that is not argmax q and the noisy label elsewhere; and (N,) whether it is not.
    """
    given = noisy if targets is None else targets.argmax(dim=1) if targets.ndim == 2 else targets
    changed_to = output.corrected_targets.argmax(dim=1)
    changed = changed_to != given
    return torch.where(changed, changed_to, noisy), changed


class Steps:
    """Keeps what a network and its loss said in an epoch's training steps, on the device, to be audited all at once.

    A step then costs the audits nothing but a reference to each of a few small tensors.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Tensor, ...]] = []

    def add(self, index: Tensor, logits: Tensor, output: LossOutput) -> None:
        """Adds one batch.

        Args:
            index: (N,) positions in the training part.
            logits: (N, C).
            output: What the loss returned.
        """
        kept = (index, logits, output.per_sample, output.corrected_targets, output.trust)
        self._steps.append(tuple(tensor.detach() for tensor in kept))

    def joined(self) -> tuple[Tensor, Tensor, LossOutput]:
        """All of them as one batch: index, logits, and what the loss returned, without gradient."""
        index, logits, per_sample, corrected, trust = (torch.cat(tensors) for tensors in zip(*self._steps, strict=True))
        return index, logits, LossOutput(per_sample.mean(), per_sample, corrected, trust)


class Audit:
    """Accumulates shares over an epoch, on the device, without synchronising.

    A label is *changed* where argmax q̃ ≠ argmax q, and *corrected* where it is changed and argmax q̃ is the true
    label. An utterance is *mislabelled* where its noisy label is not the true one, *clean* where it is, and a
    mislabelled one is *memorised* where the network predicts its wrong label.

    Args:
        num_classes: C.
        device: Where the batches are.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._confusion = torch.zeros((num_classes, num_classes), dtype=torch.float64, device=device)
        self._sums = torch.zeros(10, dtype=torch.float64, device=device)
        # For each bin of trust: utterances, and the sum of their trust.
        self._trust = torch.zeros((2, TRUST_BINS), dtype=torch.float64, device=device)
        self._count = 0

    @torch.no_grad()
    def update(
        self, logits: Tensor, noisy: Tensor, truth: Tensor, output: LossOutput, targets: Tensor | None = None
    ) -> None:
        """Adds one batch.

        Args:
            logits: (N, C).
            noisy: (N,) noisy labels.
            truth: (N,) true labels, −1 where unknown.
            output: What the loss returned.
            targets: q, (N,) or (N, C), what the loss was given, where that was not ``noisy``.
        """
        predicted = logits.argmax(dim=1)
        changed_to, changed = changed_labels(noisy, output, targets)
        known = truth >= 0
        right = predicted == truth  # never where the truth is unknown
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
        # Unlike bincount, index_add_ need not ask the device for the largest index.
        self._confusion.view(-1).index_add_(0, noisy * len(self._confusion) + predicted, ones)
        bins = (trust * TRUST_BINS).long().clamp(0, TRUST_BINS - 1)
        self._trust.index_add_(1, bins, torch.stack([ones, trust]))

    def metrics(self) -> dict[str, float]:
        """The epoch's shares; those that need a true label, or a mislabelled utterance, only where there is one.

        Returns:
            ``loss``, ``trust`` (the mean), ``trust_q10``, ``trust_q50``, ``trust_q90`` (quantiles, to .01), ``uar``,
            ``f1_weighted`` (against the noisy labels), ``labels_changed``, ``labels_corrected``,
            ``correction_precision``, ``correction_recall``, ``memorised``, and against the true labels
            ``accuracy_clean`` and ``accuracy_mislabelled``, of the clean and of the mislabelled utterances.
        """
        (
            loss, trust, changed, known, judged, corrected, mislabelled, memorised, right_mislabelled, right_clean,
        ) = self._sums.tolist()  # fmt: skip
        count = self._count
        result = {"loss": loss / count, "trust": trust / count, "labels_changed": changed / count}
        result |= self._trust_quantiles()
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
            result["accuracy_mislabelled"] = right_mislabelled / mislabelled
        if known > mislabelled:
            result["accuracy_clean"] = right_clean / (known - mislabelled)
        return result

    def _trust_quantiles(self) -> dict[str, float]:
        """Each as the mean trust of the bin that it falls into, so that a constant trust is met exactly."""
        counts, sums = self._trust.cpu()
        reached = counts.cumsum(0) / self._count
        found = {}
        for share in TRUST_QUANTILES:
            # The last bin reaches 1, whatever rounding says.
            place = int((reached[:-1] < share - 1e-9).sum())
            found[f"trust_q{share * 100:.0f}"] = float(sums[place] / counts[place])
        return found


class UtteranceAudit:
    """Keeps what the loss last made of each training utterance, on the device, without synchronising.

    An utterance that is drawn several times in an epoch keeps its last draw; one that is not drawn keeps what it had.

    Args:
        num_samples: n, training utterances.
        num_classes: C.
        device: Where the batches are.
    """

    def __init__(self, num_samples: int, num_classes: int, device: torch.device) -> None:
        # Probabilities, then label, share kept and trust: one tensor, so one write a step.
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
        """Takes over one batch.

        Args:
            index: (N,) positions in the training part; one may be there more than once.
            logits: (N, C).
            noisy: (N,) noisy labels.
            output: What the loss returned.
            epoch: From 1.
            targets: q, (N,) or (N, C), what the loss was given, where that was not ``noisy``.
        """
        corrected, changed = changed_labels(noisy, output, targets)
        kept = output.corrected_targets.gather(1, noisy.unsqueeze(1))
        columns = (logits.float().softmax(dim=1), corrected.unsqueeze(1), kept, output.trust.unsqueeze(1))
        values = torch.cat([column.float() for column in columns], dim=1)
        # Two writes to one row have no order on a GPU, so both write the later draw.
        place = torch.arange(len(index), device=index.device)
        latest = torch.full_like(self._first_changed, -1).scatter_reduce_(0, index, place, "amax")[index]
        self._last.index_copy_(0, index, values[latest])
        self._first_changed.scatter_reduce_(0, index, torch.where(changed, epoch, NEVER), "amin")

    def state_dict(self) -> dict[str, Tensor]:
        """``last`` (n, C + 3) and ``first_changed`` (n,): the tensors themselves, not copies."""
        return {"last": self._last, "first_changed": self._first_changed}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over a copy of what ``state_dict`` gave."""
        self._last.copy_(state["last"])
        self._first_changed.copy_(state["first_changed"])

    def last_seen(self) -> LastSeen:
        """All that was kept, as arrays of their own."""
        last, first = self._last.cpu().numpy().copy(), self._first_changed.cpu().numpy()
        corrected = np.nan_to_num(last[:, -3], nan=-1).astype(np.int64)
        return LastSeen(last[:, :-3], corrected, last[:, -2], last[:, -1], np.where(first == NEVER, 0, first))
