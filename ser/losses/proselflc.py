"""ProSelfLC, progressive self label correction, and a control that only re-weights samples.

"Progressive" means that the trust in the model, ε, grows as training progresses. It is the product of a global trust,
the same for all samples and increasing with the steps, and a local trust, higher for more confident predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ser.losses.base import Loss, LossOutput, cross_entropy_with_logits, make_output
from ser.losses.constant import correct_targets
from ser.losses.schedule import Schedule, progress_of
from ser.utils.checks import check_choice, check_count, check_flag, check_positive, check_range
from ser.utils.errors import UserError, unknown_name

LOCAL_TRUSTS = ("entropy", "confidence", "global")

_Numbers = tuple[float, float] | tuple[Tensor, Tensor]


def global_trust(progress: float, exp_base: float, transit_time_ratio: float) -> float:
    """Return the global trust in the model, g(t) = 1 / (1 + exp(−B (t/Γ − τ))).

    Args:
        progress: t/Γ in [0, 1].
        exp_base: B ≥ 0, steepness of the transition from distrust to trust; 0 gives ½ at every progress.
        transit_time_ratio: τ in [0, 1], the progress at which g is ½.

    Returns:
        g in [0, 1].

    Source:
        Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788).

    Example:
        >>> [round(global_trust(progress, exp_base=10, transit_time_ratio=0.5), 3) for progress in (0, 0.5, 1)]
        [0.007, 0.5, 0.993]
    """
    # The logistic function in terms of tanh, which cannot overflow.
    return 0.5 * (1.0 + math.tanh(0.5 * exp_base * (progress - transit_time_ratio)))


def local_trust(p: Tensor, kind: str) -> Tensor:
    """Return the local trust in each prediction, l(p).

    Args:
        p: (N, C) probabilities, C ≥ 2.
        kind: ``entropy`` for 1 − H(p) / log C, ``confidence`` for max p, or ``global`` for 1.

    Returns:
        (N,) in [0, 1].

    Raises:
        UserError: If ``kind`` is unknown.

    Source:
        Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788).
    """
    if kind == "entropy":
        # entr takes 0 log 0 as 0. The clamp is for a uniform p, where rounding can give a value just below 0.
        entropy: Tensor = torch.special.entr(p).sum(dim=-1)
        return (1.0 - entropy / math.log(p.shape[-1])).clamp(0.0, 1.0)
    if kind == "confidence":
        return p.amax(dim=-1)
    if kind == "global":
        return torch.ones_like(p[..., 0])
    raise unknown_name("trust", kind, LOCAL_TRUSTS)


def reweighted_cross_entropy(logits: Tensor, targets: Tensor, trust: Tensor) -> Tensor:
    """Compute cross entropy with a lower weight the more the model is trusted, (1 − ε) H(q, p).

    Args:
        logits: z, (N, C).
        targets: q, (N, C).
        trust: ε, (N,) in [0, 1].

    Returns:
        (N,).
    """
    return (1.0 - trust) * cross_entropy_with_logits(logits, targets)


@dataclass(frozen=True)
class _Trusting(Loss):
    """Base class of ProSelfLC and its control, with the parameters of the trust ε = g(t) · l(p_T)."""

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

    def schedule(self, step: int | None) -> tuple[float, float]:
        """Return g(t) and the temperature T of a step."""
        progress = progress_of(step, self.total_steps)
        temperature = self.temperature.at(progress) if isinstance(self.temperature, Schedule) else self.temperature
        return global_trust(progress, self.exp_base, self.transit_time_ratio), temperature

    def _knowledge_and_trust(self, z: Tensor, step: _Numbers) -> tuple[Tensor, Tensor]:
        """Return p_T (N, C) and ε (N,), both without gradient."""
        g, temperature = step
        knowledge = F.softmax(z.detach() / temperature, dim=-1)
        return knowledge, g * local_trust(knowledge, self.trust)


@dataclass(frozen=True)
class ProSelfLC(_Trusting):
    """Progressive self label correction: H(q̃, p) with q̃ = (1 − ε) q + ε p_T and ε = g(t) · l(p_T).

    p_T = softmax(z / T). The trust ε carries no gradient, and p_T carries one only with ``target_gradient``.
    Without it, ∂L/∂z = (1 − ε)(p − q) + ε (p − p_T). At T = 1 the second term vanishes, which leaves a re-weighting
    of samples. With ``target_gradient`` the second term is ε ∂H(p)/∂z, entropy minimisation.

    Args:
        transit_time_ratio: τ in [0, 1]. Published .5; usual range .1 to .8.
        exp_base: B ≥ 0. Usual range 4 to 20.
        total_steps: Γ ≥ 1, the **planned** number of optimiser steps, even if training may stop early.
        temperature: T > 0, or a `Schedule` of it over t/Γ. T < 1 lowers the entropy of the prediction that corrects
            the label; published values 1, .8, .6, .5 and .4.
        trust: Kind of local trust l(·), one of ``entropy``, ``confidence``, ``global``; see `local_trust`.
        target_gradient: Whether the gradient flows through p in q̃, as in the code of the 2021 paper, or not, as in
            that of 2022. None stands for True if T is 1 at every step, and for False otherwise.

    Raises:
        UserError: If a parameter is out of range, or if ``target_gradient`` is True and T is not 1 at every step.

    Source:
        Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788); temperature: arXiv 2207.00118.

    Example:
        The model is all but certain of class 1, the label is class 0. Early in training the label prevails, late the
        model does.

        >>> import torch
        >>> loss = ProSelfLC(transit_time_ratio=0.5, exp_base=10, total_steps=100)
        >>> logits, labels = torch.tensor([[0.0, 20.0]]), torch.tensor([0])
        >>> for step in (0, 50, 100):
        ...     output = loss(logits, labels, step)
        ...     print(round(output.trust.item(), 2), output.corrected_targets.argmax().item())
        0.01 0
        0.5 0
        0.99 1
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
                f"got {self.temperature!r}. Omit target_gradient, or set it to False."
            )
        if self.target_gradient is None:
            object.__setattr__(self, "target_gradient", temperature_is_one)

    def _compute(self, z: Tensor, q: Tensor, step: _Numbers, index: Tensor | None) -> LossOutput:
        knowledge, epsilon = self._knowledge_and_trust(z, step)
        if self.target_gradient:
            knowledge = F.softmax(z, dim=-1)
        corrected = correct_targets(q, knowledge, epsilon)
        return make_output(cross_entropy_with_logits(z, corrected), corrected, epsilon)


@dataclass(frozen=True)
class ReweightingControl(_Trusting):
    """Control for ProSelfLC that re-weights samples as ProSelfLC does, but corrects no label: (1 − ε) H(q, p).

    ε = g(t) · l(p_T) is the trust of ProSelfLC and carries no gradient. At T = 1 the gradient is that of ProSelfLC
    without ``target_gradient``. The advantage of ProSelfLC over this control is the effect of the correction itself.

    Args:
        transit_time_ratio: τ in [0, 1], as for `ProSelfLC`.
        exp_base: B ≥ 0, as for `ProSelfLC`.
        total_steps: Γ ≥ 1, the **planned** number of optimiser steps.
        temperature: T > 0, or a `Schedule` of it over t/Γ; here it changes the trust only.
        trust: Kind of local trust l(·), one of ``entropy``, ``confidence``, ``global``; see `local_trust`.

    Raises:
        UserError: If a parameter is out of range.

    Source:
        This project, from the gradient of Wang et al., ProSelfLC, CVPR 2021 (arXiv 2005.03788).

    Example:
        The model is all but certain of class 1, the label is class 0.

        >>> import torch
        >>> loss = ReweightingControl(transit_time_ratio=0.5, exp_base=10, total_steps=100)
        >>> output = loss(torch.tensor([[0.0, 20.0]]), torch.tensor([0]), step=100)
        >>> round(output.trust.item(), 2), output.corrected_targets.tolist()
        (0.99, [[1.0, 0.0]])
    """

    def _compute(self, z: Tensor, q: Tensor, step: _Numbers, index: Tensor | None) -> LossOutput:
        _, epsilon = self._knowledge_and_trust(z, step)
        return make_output(reweighted_cross_entropy(z, q, epsilon), q, epsilon)
