"""Mixup: cross entropy of mixed inputs against labels that are mixed in the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ser.losses.base import Mixing
from ser.losses.constant import CrossEntropy
from ser.utils.checks import check_range


@dataclass(frozen=True)
class Mixup(CrossEntropy):
    """Cross entropy on mixtures: x̃ = λ x + (1 − λ) x′ and q̃ = λ q + (1 − λ) q′, with λ ~ Beta(α, α).

    (x′, q′) is another sample of the same batch, by a random permutation, and λ is drawn once for each batch, as in the
    authors' code. λ below one half is replaced by 1 − λ. That changes the order of a batch's mixtures and not their
    distribution, because the inverse of a random permutation is one too; and each mixture then stands for the sample
    that has the larger share, so label metrics and the per-utterance table are about an utterance's own label. What the
    network predicts there is for the mixture.

    The training loop mixes; called with targets that are not mixed, this is cross entropy.

    Args:
        alpha: α ≥ 0; 0 mixes nothing. Published: .2 (ImageNet .1 to .4, speech commands .1 and .2), 1 (CIFAR), 8 and 32
            (CIFAR-10 with corrupted labels).

    Raises:
        UserError: If ``alpha`` is out of range.

    Source:
        Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018 (arXiv 1710.09412).

    Example:
        >>> mixing = Mixup(alpha=0.2).mixing(3, np.random.default_rng(0))
        >>> 0.5 <= mixing.share <= 1, sorted(mixing.partner.tolist())
        (True, [0, 1, 2])
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_range("Mixup: alpha", self.alpha, 0.0)

    def mixing(self, size: int, rng: np.random.Generator) -> Mixing | None:
        """Draw λ and the permutation of a batch."""
        if self.alpha == 0:
            return None
        share = float(rng.beta(self.alpha, self.alpha))
        return Mixing(max(share, 1.0 - share), torch.from_numpy(rng.permutation(size)))
