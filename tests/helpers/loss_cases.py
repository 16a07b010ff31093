"""Every loss in every variant that takes another path through the code, with its formula written independently."""

import math

import torch
from torch import Tensor

from ser.losses import LossOutput, build_loss

TOTAL_STEPS = 100
STEP = 60
SAMPLES, CLASSES = 6, 4
PUBLISHED = {"transit_time_ratio": 0.5, "exp_base": 16.0}
SHARP = {**PUBLISHED, "temperature": 0.4, "trust": "confidence"}
SCHEDULE = {**PUBLISHED, "temperature": {"kind": "cosine", "start": 1.0, "end": 0.4}}


def entropy(target: Tensor, p: Tensor) -> Tensor:
    """Return H(target, p) of each sample."""
    return -(target * p.log()).sum(dim=1)


def reverse(q: Tensor, p: Tensor, smallest: float = 1e-4) -> Tensor:
    return -(p * q.clamp(min=smallest).log()).sum(dim=1)


def symmetric_noise(classes: int = CLASSES) -> Tensor:
    """Return the transition matrix of labels, half of which are drawn at random."""
    return (0.5 * torch.eye(classes) + 0.5 / classes).double()


def focal(gamma: float):
    return lambda p, q, out, t: -(q * (1 - p) ** gamma * p.log()).sum(dim=1)


def against_stopped_target(p: Tensor, q: Tensor, out: LossOutput, t: Tensor | None) -> Tensor:
    return entropy(out.corrected_targets, p)


def normalized(alpha: float, beta: float):
    return lambda p, q, out, t: alpha * entropy(q, p) / -p.log().sum(dim=1) + beta * reverse(q, p)


# Variant: (name, parameters, formula). The formula gets p and q, and what carries no gradient: the output and the
# moving averages t̄ of ELR.
BATTERY = {
    "cross_entropy": ("cross_entropy", {}, lambda p, q, out, t: entropy(q, p)),
    "soft_labels": ("soft_labels", {}, lambda p, q, out, t: entropy(q, p)),
    "label_smoothing": ("label_smoothing", {"epsilon": 0.2}, lambda p, q, out, t: entropy(0.8 * q + 0.05, p)),
    "confidence_penalty": (
        "confidence_penalty",
        {"epsilon": 0.2},
        lambda p, q, out, t: 0.8 * entropy(q, p) - 0.2 * entropy(p, p),
    ),
    "confidence_penalty, stopped": (
        "confidence_penalty",
        {"epsilon": 0.4, "target_gradient": False},
        against_stopped_target,
    ),
    "label_correction": (
        "label_correction",
        {"epsilon": 0.3},
        lambda p, q, out, t: 0.7 * entropy(q, p) + 0.3 * entropy(p, p),
    ),
    "label_correction, stopped": (
        "label_correction",
        {"epsilon": 0.3, "target_gradient": False},
        against_stopped_target,
    ),
    "proselflc": (
        "proselflc",
        PUBLISHED,
        lambda p, q, out, t: (1 - out.trust) * entropy(q, p) + out.trust * entropy(p, p),
    ),
    "proselflc, stopped": ("proselflc", {**PUBLISHED, "target_gradient": False}, against_stopped_target),
    "proselflc, sharp": ("proselflc", SHARP, against_stopped_target),
    "proselflc, entropy schedule": ("proselflc", SCHEDULE, against_stopped_target),
    "proselflc, global": (
        "proselflc",
        {**PUBLISHED, "trust": "global"},
        lambda p, q, out, t: (1 - out.trust) * entropy(q, p) + out.trust * entropy(p, p),
    ),
    "reweighting_control": (
        "reweighting_control",
        PUBLISHED,
        lambda p, q, out, t: (1 - out.trust) * entropy(q, p),
    ),
    "reweighting_control, sharp": (
        "reweighting_control",
        SHARP,
        lambda p, q, out, t: (1 - out.trust) * entropy(q, p),
    ),
    "generalized_cross_entropy": (
        "generalized_cross_entropy",
        {},
        lambda p, q, out, t: (q * (1 - p**0.7) / 0.7).sum(dim=1),
    ),
    "generalized_cross_entropy, smallest q": (
        "generalized_cross_entropy",
        {"q": 1e-6},
        lambda p, q, out, t: -(q * (p.log() + 1e-6 * p.log() ** 2 / 2)).sum(dim=1),
    ),
    "generalized_cross_entropy, largest q": (
        "generalized_cross_entropy",
        {"q": 1},
        lambda p, q, out, t: 1 - (q * p).sum(dim=1),
    ),
    "symmetric_cross_entropy": (
        "symmetric_cross_entropy",
        {},
        lambda p, q, out, t: 0.1 * entropy(q, p) + reverse(q, p),
    ),
    "symmetric_cross_entropy, hundred classes": (
        "symmetric_cross_entropy",
        {"alpha": 6, "beta": 0.1},
        lambda p, q, out, t: 6 * entropy(q, p) + 0.1 * reverse(q, p),
    ),
    "symmetric_cross_entropy, as in the paper's text": (
        "symmetric_cross_entropy",
        {"log_zero": -4.0},
        lambda p, q, out, t: 0.1 * entropy(q, p) + reverse(q, p, math.exp(-4)),
    ),
    "normalized_losses": ("normalized_losses", {}, normalized(1, 1)),
    "normalized_losses, hundred classes": ("normalized_losses", {"alpha": 10, "beta": 0.1}, normalized(10, 0.1)),
    "elr": (
        "elr",
        {},
        lambda p, q, out, t: entropy(q, p) + 3 * (1 - (p * t).sum(dim=1)).log(),
    ),
    "elr, hundred classes": (
        "elr",
        {"strength": 7, "momentum": 0.9},
        lambda p, q, out, t: entropy(q, p) + 7 * (1 - (p * t).sum(dim=1)).log(),
    ),
    "mixup": ("mixup", {}, lambda p, q, out, t: entropy(q, p)),
    "forward_correction": ("forward_correction", {}, lambda p, q, out, t: entropy(q, p @ symmetric_noise())),
    "forward_correction, in its warm-up": (
        "forward_correction",
        {"warmup_ratio": 0.8},
        lambda p, q, out, t: entropy(q, p),
    ),
    "focal": ("focal", {}, focal(2)),
    "focal, below 1": ("focal", {"gamma": 0.3}, focal(0.3)),
    "focal, 0": ("focal", {"gamma": 0}, focal(0)),
}
# Variants in which the gradient flows through every term.
FLOWING = sorted(
    variant
    for variant, (name, parameters, _) in BATTERY.items()
    if name not in {"proselflc", "reweighting_control", "elr"} and parameters.get("target_gradient", True)
)


class Variant:
    """A variant of the battery, called with the first samples of a training set."""

    def __init__(self, title: str, samples: int = SAMPLES, classes: int = CLASSES) -> None:
        self.name, self.parameters, self.formula = BATTERY[title]
        self.sizes = (samples, classes)

    def fresh(self):
        loss = build_loss(self.name, self.parameters, TOTAL_STEPS, *self.sizes)
        if self.name == "forward_correction":  # as if estimated
            samples, classes = self.sizes
            noise = symmetric_noise(classes).float()
            loss.load_state_dict({"predictions": torch.zeros(samples, classes), "transition": noise})
        return loss

    @property
    def corrects(self) -> bool:
        """Return whether the loss trusts the prediction and corrects the label at ``STEP``."""
        late = self.name != "forward_correction" or "warmup_ratio" not in self.parameters
        return late and self.name in {"label_correction", "proselflc", "forward_correction"}

    def __call__(self, logits: Tensor, targets: Tensor, step: int = STEP, loss=None, index=None) -> LossOutput:
        """Return the output for a batch, of a fresh loss unless one is given."""
        loss = loss or self.fresh()
        return loss(logits, targets, step, index=torch.arange(len(logits)) if index is None else index)


def logits_and_labels(samples: int = SAMPLES, classes: int = CLASSES, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = scale * torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(classes, (samples,), generator=generator)


def soft_labels(samples: int = SAMPLES, classes: int = CLASSES) -> Tensor:
    """Return distributions, two of which have a share of exactly 0."""
    generator = torch.Generator().manual_seed(8)
    shares = torch.rand(samples, classes, generator=generator, dtype=torch.float64)
    shares[0, 1] = shares[3, 2] = 0
    return shares / shares.sum(dim=1, keepdim=True)


def gradient(per_sample: Tensor, logits: Tensor) -> Tensor:
    """Return ∂L/∂z for the loss of each sample, (N, C)."""
    (result,) = torch.autograd.grad(per_sample.sum(), logits)
    return result
