"""What became of each utterance's label: the last that the loss made of it, and what was predicted for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.audit import changed_labels
from ser.losses import LossOutput
from ser.task import Part, Task

TRAIN, VALIDATION = "train", "validation"
"""The parts of the table."""

NEVER = torch.iinfo(torch.int64).max
TEXT = ("utterance_id", "part", "speaker", "gender", "noisy_label", "label", "corrected_label")


class UtteranceAudit:
    """Keeps what the loss last made of each training utterance, on the device, without synchronising.

    An utterance that is drawn several times in an epoch keeps its last draw; one that is not drawn keeps what it had.

    Args:
        num_samples: n, training utterances.
        num_classes: C.
        device: Where the batches are.
    """

    def __init__(self, num_samples: int, num_classes: int, device: torch.device) -> None:
        # Probabilities, then the label, the share that it kept, and the trust: one tensor, so one write a step.
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
        parts = (logits.float().softmax(dim=1), corrected.unsqueeze(1), kept, output.trust.unsqueeze(1))
        values = torch.cat([part.float() for part in parts], dim=1)
        # Writes of one row at two places of the batch have no order on a GPU, unless both write the same.
        place = torch.arange(len(index), device=index.device)
        last = torch.where(index.unsqueeze(1) == index, place, -1).amax(dim=1)
        self._last.index_copy_(0, index, values[last])
        self._first_changed.scatter_reduce_(0, index, torch.where(changed, epoch, NEVER), "amin")

    def state_dict(self) -> dict[str, Tensor]:
        """``last`` (n, C + 3) and ``first_changed`` (n,): the tensors themselves, not copies."""
        return {"last": self._last, "first_changed": self._first_changed}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over a copy of what ``state_dict`` gave."""
        self._last.copy_(state["last"])
        self._first_changed.copy_(state["first_changed"])

    def table(self, task: Task, validation: NDArray[np.floating]) -> pd.DataFrame:
        """What became of each training utterance, and what was predicted for each validation utterance.

        Args:
            task: Whose train part was seen.
            validation: (m, C) class probabilities of its validation utterances.

        Returns:
            n + m rows: ``utterance_id``; ``part``, ``train`` or ``validation``; ``speaker``; ``gender``;
            ``noisy_label``; ``label``, the true one; ``corrected_label``, the label after the loss's last correction;
            ``kept``, what the noisy label had of the corrected target (1 where nothing was taken from it);
            ``trust``, the ε of the loss; ``first_epoch_changed``, from 1; and ``p_CLASS`` for each class, float32:
            in training what the loss saw last (one crop, with masks and dropout), in validation the final evaluation.
            Missing: true labels that are unknown; in training whatever was never drawn, and the epoch of what was
            never changed; in validation all that only a loss can tell.
        """
        last, first = self._last.cpu().numpy(), self._first_changed.cpu().numpy()
        classes = len(task.classes)
        train = _part(TRAIN, task.train, task.classes, last[:, :classes])
        rest = _part(VALIDATION, task.validation, task.classes, validation.astype(np.float32))
        corrected = np.nan_to_num(last[:, classes], nan=-1).astype(int)
        train["corrected_label"] = _names(task.classes, corrected)
        train["kept"], train["trust"] = last[:, classes + 1], last[:, classes + 2]
        train["first_epoch_changed"] = pd.arrays.IntegerArray(first, first == NEVER)
        rest["corrected_label"] = None
        rest["kept"] = rest["trust"] = np.full(len(rest), np.nan, np.float32)
        rest["first_epoch_changed"] = pd.array([pd.NA] * len(rest), dtype="Int64")
        text = dict.fromkeys(TEXT, "string")
        table = pd.concat([train.astype(text), rest.astype(text)], ignore_index=True)
        columns = (*TEXT, "kept", "trust", "first_epoch_changed", *map(probability_column, task.classes))
        return table[list(columns)]


def probability_column(label: str) -> str:
    """The table's column with the probabilities of a class."""
    return f"p_{label}"


def _part(name: str, part: Part, classes: tuple[str, ...], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    known = {
        "utterance_id": part.utterance_ids,
        "part": name,
        "speaker": part.speakers,
        "gender": part.genders,
        "noisy_label": _names(classes, part.noisy),
        "label": _names(classes, part.truth),
    }
    predicted = {probability_column(label): probabilities[:, place] for place, label in enumerate(classes)}
    return pd.DataFrame({**known, **predicted})


def _names(classes: tuple[str, ...], indices: NDArray[np.int64]) -> NDArray[np.object_]:
    """Class names; None for −1."""
    return np.array([*classes, None], dtype=object)[indices]
