"""Losses that learn from noisy labels: what each one takes as the target, and how far it trusts the model.

Each loss is a pure function, or a few, with its formula, and a thin class that holds its parameters. All
classes are called alike, ``loss(logits, targets, step)``, and return a `LossOutput`; `build_loss` makes one
by name.

Notation: logits z (N, C), predictions p = softmax(z), label q (one-hot or soft), H(a, b) = −Σ a log b,
H(p) = H(p, p), t optimiser steps done, Γ steps planned.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ser.errors import UserError, unknown_name

LOCAL_TRUSTS = ("entropy", "confidence", "global")
SCHEDULE_KINDS = ("constant", "linear", "cosine")

Built = TypeVar("Built")


@dataclass(frozen=True, eq=False)
class LossOutput:
    """What a loss says about one batch.

    Attributes:
        loss: Scalar, the mean of ``per_sample``; call ``backward`` on it.
        per_sample: (N,), with gradient.
        corrected_targets: (N, C), the targets that were learnt from, without gradient, for reporting.
        trust: (N,) in [0, 1], the share ε of the model's own prediction in the target, without gradient.
    """

    loss: Tensor
    per_sample: Tensor
    corrected_targets: Tensor
    trust: Tensor


class Loss(Protocol):
    """The call that every loss answers.

    Args:
        logits: (N, C), floating point. Half precision is computed in float32.
        targets: (N,) class indices, or (N, C) probabilities.
        step: Optimiser steps done so far, from 0; losses that do not change over time ignore it.

    Raises:
        ValueError: Shapes or types do not fit, or ``step`` lies outside the plan.
    """

    def __call__(self, logits: Tensor, targets: Tensor, step: int) -> LossOutput: ...  # noqa: D102


def soft_cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Cross entropy against a distribution, H(q, p) = −Σ q log softmax(z).

    Args:
        targets: (N, C) probabilities; gradient flows through them if they carry one.
        logits: (N, C).

    Returns:
        (N,).
    """
    return -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1)


def as_distribution(targets: Tensor, num_classes: int) -> Tensor:
    """Targets as one distribution per utterance.

    Args:
        targets: (N,) class indices in 0..C−1, or (N, C) probabilities, which are passed through.
        num_classes: C.

    Returns:
        (N, C), floating point.

    Raises:
        ValueError: Another shape, or indices that are no integers, or probabilities that are.
        RuntimeError: An index outside 0..C−1 (PyTorch's own check).
    """
    if targets.ndim == 1 and not targets.is_floating_point():
        return F.one_hot(targets.long(), num_classes).float()
    if targets.ndim == 2 and targets.shape[1] == num_classes and targets.is_floating_point():
        return targets
    raise ValueError(
        f"targets must be (N,) integers or (N, {num_classes}) probabilities, "
        f"got {tuple(targets.shape)} of {targets.dtype}"
    )


def global_trust(progress: float, exp_base: float, transit_time_ratio: float) -> float:
    """Trust in the model as training goes on, g(t) = 1 / (1 + exp(−B (t/Γ − τ))).

    Args:
        progress: t/Γ in [0, 1].
        exp_base: B ≥ 0, how sharp the transit is; 0 gives ½ throughout.
        transit_time_ratio: τ in [0, 1], the progress at which g is ½.

    Returns:
        g in [0, 1].

    Source:
        Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788).
    """
    # The logistic function written with tanh, which cannot overflow.
    return 0.5 * (1.0 + math.tanh(0.5 * exp_base * (progress - transit_time_ratio)))


def local_trust(p: Tensor, kind: str) -> Tensor:
    """Trust in one prediction, l(p).

    Args:
        p: (N, C) probabilities, C ≥ 2.
        kind: ``entropy`` 1 − H(p) / log C, ``confidence`` max p, or ``global`` 1.

    Returns:
        (N,) in [0, 1].

    Raises:
        UserError: Unknown ``kind``.

    Source:
        Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788).
    """
    if kind == "entropy":
        # entr has 0 log 0 = 0; rounding can take a uniform p just below 0.
        entropy: Tensor = torch.special.entr(p).sum(dim=-1)
        return (1.0 - entropy / math.log(p.shape[-1])).clamp(0.0, 1.0)
    if kind == "confidence":
        return p.amax(dim=-1)
    if kind == "global":
        return torch.ones_like(p[..., 0])
    raise unknown_name("trust", kind, LOCAL_TRUSTS)


def correct_targets(targets: Tensor, knowledge: Tensor, trust: Tensor) -> Tensor:
    """The corrected target q̃ = (1 − ε) q + ε p.

    Args:
        targets: q, (N, C).
        knowledge: p, (N, C), what the label is mixed with.
        trust: ε, (N,) in [0, 1].

    Returns:
        (N, C), each row sums to 1.

    Source:
        Reed et al. 2014 (arXiv 1412.6596) for a constant ε; Wang et al., CVPR 2021, for one per utterance.
    """
    epsilon = trust.unsqueeze(-1)
    return (1.0 - epsilon) * targets + epsilon * knowledge


@dataclass(frozen=True)
class Schedule:
    """A positive value over the progress t/Γ of training, such as an entropy schedule's temperature.

    Args:
        kind: ``constant`` (start), ``linear`` or ``cosine`` (from start to end, half a cosine period).
        start: Value at progress 0, > 0.
        end: Value at progress 1, > 0. A constant needs none and ignores one.

    Raises:
        UserError: Unknown kind, a value that is not > 0, or a missing end.
    """

    kind: str
    start: float
    end: float | None = None

    def __post_init__(self) -> None:
        _check_choice("kind of Schedule", self.kind, SCHEDULE_KINDS)
        _check_positive("Schedule: start", self.start)
        if self.kind != "constant":
            if self.end is None:
                raise UserError(f"Schedule: kind {self.kind!r} needs an end beside its start.")
            _check_positive("Schedule: end", self.end)

    def at(self, progress: float) -> float:
        """The value at a progress t/Γ in [0, 1]."""
        if self.kind == "constant" or self.end is None:
            return self.start
        done = progress if self.kind == "linear" else 0.5 * (1.0 - math.cos(math.pi * progress))
        return (1.0 - done) * self.start + done * self.end

    def is_constant(self, value: float) -> bool:
        """Whether every progress has this value."""
        return self.start == value and (self.kind == "constant" or self.end == value)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy, H(q, p): the label is believed, the model is not. The baseline; no parameters.

    With soft labels as targets it is the oracle on the data side, training on the annotators' distribution.
    """

    def __call__(self, logits: Tensor, targets: Tensor, step: int = 0) -> LossOutput:
        """See `Loss`; ``step`` is ignored."""
        z, q = _prepare(logits, targets)
        return _output(soft_cross_entropy(q, z), q, z.new_zeros(z.shape[0]))


@dataclass(frozen=True)
class ProSelfLC:
    """Progressive self label correction: H(q̃, p) with q̃ = (1 − ε) q + ε p_T and ε = g(t) · l(p_T).

    p_T = softmax(z / T). The trust ε carries no gradient, and p_T carries one only with ``target_gradient``.
    Stopped, ∂L/∂z = (1 − ε)(p − q) + ε (p − p_T); at T = 1 the second term vanishes, so that samples are only
    re-weighted. With ``target_gradient`` the second term is ε ∂H(p)/∂z, entropy minimisation.

    Args:
        transit_time_ratio: τ in [0, 1]. Published .5; usual range .1 to .8.
        exp_base: B ≥ 0. Usual range 4 to 20.
        total_steps: Γ ≥ 1, the **planned** number of optimiser steps, also where training may stop early.
        temperature: T > 0, or its `Schedule` over t/Γ (an entropy schedule). T < 1 sharpens the correcting
            knowledge; published values 1, .8, .6, .5 and .4.
        trust: l(·), one of ``entropy``, ``confidence``, ``global``; see `local_trust`.
        target_gradient: Whether the gradient flows through p in q̃, as in the 2021 code; the 2022 code stops
            it. None resolves to True for a constant T = 1 and to False otherwise.

    Raises:
        UserError: A parameter is out of range, or ``target_gradient`` is True where T is not 1 throughout.

    Source:
        Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788); temperature: arXiv 2207.00118.
    """

    transit_time_ratio: float
    exp_base: float
    total_steps: int
    temperature: float | Schedule = 1.0
    trust: str = "entropy"
    target_gradient: bool | None = None

    def __post_init__(self) -> None:
        _check_range("ProSelfLC: transit_time_ratio", self.transit_time_ratio, 0.0, 1.0)
        _check_range("ProSelfLC: exp_base", self.exp_base, 0.0)
        _check_steps("ProSelfLC: total_steps", self.total_steps)
        _check_choice("trust of ProSelfLC", self.trust, LOCAL_TRUSTS)
        _check_flag("ProSelfLC: target_gradient", self.target_gradient)
        if isinstance(self.temperature, Schedule):
            temperature_is_one = self.temperature.is_constant(1.0)
        else:
            _check_positive("ProSelfLC: temperature", self.temperature)
            temperature_is_one = self.temperature == 1.0
        if self.target_gradient and not temperature_is_one:
            raise UserError(
                "ProSelfLC: target_gradient=True needs a constant temperature of 1, "
                f"got {self.temperature!r}. Leave target_gradient out, or set it to False."
            )
        if self.target_gradient is None:
            object.__setattr__(self, "target_gradient", temperature_is_one)

    def __call__(self, logits: Tensor, targets: Tensor, step: int) -> LossOutput:
        """See `Loss`; ``step`` is t in 0..``total_steps``."""
        z, q = _prepare(logits, targets)
        progress = _progress(step, self.total_steps)
        if self.target_gradient:
            knowledge = F.softmax(z, dim=-1)
        else:
            knowledge = F.softmax(z.detach() / self._temperature_at(progress), dim=-1)
        g = global_trust(progress, self.exp_base, self.transit_time_ratio)
        epsilon = g * local_trust(knowledge.detach(), self.trust)
        corrected = correct_targets(q, knowledge, epsilon)
        return _output(soft_cross_entropy(corrected, z), corrected, epsilon)

    def _temperature_at(self, progress: float) -> float:
        return self.temperature.at(progress) if isinstance(self.temperature, Schedule) else self.temperature


LOSSES: dict[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "proselflc": ProSelfLC,
}


def build_loss(name: str, params: Mapping[str, Any], total_steps: int) -> Loss:
    """A loss by name, its parameters checked against the class.

    Args:
        name: A key of `LOSSES`.
        params: The class's arguments except ``total_steps``. ``temperature`` may be a number or a mapping of
            `Schedule`'s arguments, such as ``{"kind": "linear", "start": 1.0, "end": 0.5}``.
        total_steps: Γ, handed to the losses that take it.

    Returns:
        The loss, a callable as in `Loss`.

    Raises:
        UserError: Unknown loss or parameter, a missing one, or a value of the wrong type or out of range.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    values = dict(params)
    if isinstance(values.get("temperature"), Mapping):
        values["temperature"] = _construct("temperature schedule", Schedule, values["temperature"], {})
    return _construct(f"loss {name!r}", LOSSES[name], values, {"total_steps": total_steps})


def _construct(what: str, make: Callable[..., Built], params: Mapping[str, Any], provided: Mapping[str, Any]) -> Built:
    """Calls ``make`` with the user's parameters and those of the provided ones that it takes."""
    signature = inspect.signature(make).parameters
    known = [key for key in signature if key not in provided]
    for key in params:
        if not known:
            raise UserError(f"{what} takes no parameters, got {key!r}.")
        if key not in known:
            raise unknown_name(f"parameter of {what}:", key, known)
    missing = [key for key in known if signature[key].default is inspect.Parameter.empty and key not in params]
    if missing:
        raise UserError(f"{what} needs {' and '.join(missing)}: give a value for each.")
    return make(**params, **{key: value for key, value in provided.items() if key in signature})


def _prepare(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits in float32 or better, and the targets as distributions of the same type; shapes checked."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits must be (N, C) with at least 2 classes, got {tuple(logits.shape)}")
    if targets.shape[:1] != logits.shape[:1]:
        raise ValueError(f"{logits.shape[0]} logits rows for targets of shape {tuple(targets.shape)}")
    z = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return z, as_distribution(targets, logits.shape[1]).to(z.dtype)


def _output(per_sample: Tensor, corrected_targets: Tensor, trust: Tensor) -> LossOutput:
    return LossOutput(per_sample.mean(), per_sample, corrected_targets.detach(), trust.detach())


def _progress(step: int, total_steps: int) -> float:
    """t/Γ in [0, 1]."""
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step} lies outside the plan of 0..{total_steps} steps")
    return step / total_steps


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _check_range(what: str, value: Any, low: float, high: float = math.inf) -> None:
    if not (_is_number(value) and low <= value <= high):
        wanted = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise UserError(f"{what} must be a number {wanted}, got {value!r}.")


def _check_positive(what: str, value: Any) -> None:
    if not (_is_number(value) and value > 0):
        raise UserError(f"{what} must be a number > 0, got {value!r}.")


def _check_steps(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise UserError(f"{what} must be an integer >= 1, got {value!r}.")


def _check_choice(what: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise unknown_name(what, str(value), choices)


def _check_flag(what: str, value: Any) -> None:
    if not (value is None or isinstance(value, bool)):
        raise UserError(f"{what} must be true, false or left out, got {value!r}.")
