"""ProSelfLC, whose trust in the model grows over training time and differs between samples, and its control."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, make_output, soft_cross_entropy
from ser.losses.constant import correct_targets
from ser.losses.schedule import Schedule, progress_of
from ser.utils.checks import check_choice, check_count, check_flag, check_positive, check_range
from ser.utils.errors import UserError, unknown_name

LOCAL_TRUSTS = ("entropy", "confidence", "global")


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


def reweighted_cross_entropy(targets: Tensor, logits: Tensor, trust: Tensor) -> Tensor:
    """Cross entropy of samples that weigh less the more the model is trusted, (1 − ε) H(q, p).

    Args:
        targets: q, (N, C).
        logits: (N, C).
        trust: ε, (N,) in [0, 1].

    Returns:
        (N,).
    """
    return (1.0 - trust) * soft_cross_entropy(targets, logits)


@dataclass(frozen=True)
class _Trusting(Loss):
    """What ProSelfLC and its control share: the trust ε = g(t) · l(p_T)."""

    transit_time_ratio: float
    exp_base: float
    total_steps: int
    temperature: float | Schedule = 1.0
    trust: str = "entropy"

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_range(f"{name}: transit_time_ratio", self.transit_time_ratio, 0.0, 1.0)
        check_range(f"{name}: exp_base", self.exp_base, 0.0)
        check_count(f"{name}: total_steps", self.total_steps)
        check_choice(f"trust of {name}", self.trust, LOCAL_TRUSTS)
        if not isinstance(self.temperature, Schedule):
            check_positive(f"{name}: temperature", self.temperature)

    def _knowledge_and_trust(self, z: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        """p_T (N, C) and ε (N,), both without gradient."""
        progress = progress_of(step, self.total_steps)
        temperature = self.temperature.at(progress) if isinstance(self.temperature, Schedule) else self.temperature
        knowledge = F.softmax(z.detach() / temperature, dim=-1)
        g = global_trust(progress, self.exp_base, self.transit_time_ratio)
        return knowledge, g * local_trust(knowledge, self.trust)


@dataclass(frozen=True)
class ProSelfLC(_Trusting):
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

    target_gradient: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("ProSelfLC: target_gradient", self.target_gradient, optional=True)
        temperature_is_one = (
            self.temperature.is_constant(1.0) if isinstance(self.temperature, Schedule) else self.temperature == 1.0
        )
        if self.target_gradient and not temperature_is_one:
            raise UserError(
                "ProSelfLC: target_gradient=True needs a constant temperature of 1, "
                f"got {self.temperature!r}. Leave target_gradient out, or set it to False."
            )
        if self.target_gradient is None:
            object.__setattr__(self, "target_gradient", temperature_is_one)

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        knowledge, epsilon = self._knowledge_and_trust(z, step)
        if self.target_gradient:
            knowledge = F.softmax(z, dim=-1)
        corrected = correct_targets(q, knowledge, epsilon)
        return make_output(soft_cross_entropy(corrected, z), corrected, epsilon)


@dataclass(frozen=True)
class ReweightingControl(_Trusting):
    """The control for ProSelfLC: (1 − ε) H(q, p), samples re-weighted as ProSelfLC does, and no label corrected.

    ε = g(t) · l(p_T) is ProSelfLC's trust and carries no gradient. At T = 1 the gradient is that of ProSelfLC with a
    stopped target; what ProSelfLC gains over this control is what the correction itself gives.

    Args:
        transit_time_ratio: τ in [0, 1], as for `ProSelfLC`.
        exp_base: B ≥ 0, likewise.
        total_steps: Γ ≥ 1, the **planned** number of optimiser steps.
        temperature: T > 0, or its `Schedule` over t/Γ; here it sharpens the trust alone.
        trust: l(·), one of ``entropy``, ``confidence``, ``global``; see `local_trust`.

    Raises:
        UserError: A parameter is out of range.

    Source:
        This project's own, from the gradient of Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788).
    """

    def _compute(self, z: Tensor, q: Tensor, step: int | None, index: Tensor | None) -> LossOutput:
        _, epsilon = self._knowledge_and_trust(z, step)
        return make_output(reweighted_cross_entropy(q, z, epsilon), q, epsilon)
