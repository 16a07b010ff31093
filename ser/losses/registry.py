"""Losses by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ser.losses.base import Loss
from ser.losses.constant import ConfidencePenalty, CrossEntropy, LabelCorrection, LabelSmoothing, SoftLabels
from ser.losses.early_learning import EarlyLearningRegularization
from ser.losses.progressive import ProSelfLC, ReweightingControl
from ser.losses.reshaped import FocalLoss, GeneralizedCrossEntropy, NormalizedLosses, SymmetricCrossEntropy
from ser.losses.schedule import Schedule
from ser.utils.errors import UserError, unknown_name

Built = TypeVar("Built")

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "proselflc": ProSelfLC,
    "reweighting_control": ReweightingControl,
    "label_smoothing": LabelSmoothing,
    "confidence_penalty": ConfidencePenalty,
    "label_correction": LabelCorrection,
    "generalized_cross_entropy": GeneralizedCrossEntropy,
    "symmetric_cross_entropy": SymmetricCrossEntropy,
    "normalized_losses": NormalizedLosses,
    "elr": EarlyLearningRegularization,
    "focal": FocalLoss,
    "soft_labels": SoftLabels,
}


def build_loss(name: str, params: Mapping[str, Any], total_steps: int, num_samples: int, num_classes: int) -> Loss:
    """A loss by name, its parameters checked against the class.

    Args:
        name: A key of `LOSSES`.
        params: The class's arguments except those below. ``temperature`` may be a number or a mapping of
            `Schedule`'s arguments, such as ``{"kind": "linear", "start": 1.0, "end": 0.5}``.
        total_steps: Γ, handed to the losses that take it.
        num_samples: Utterances in the training set, likewise.
        num_classes: C, likewise.

    Returns:
        The loss.

    Raises:
        UserError: Unknown loss or parameter, a missing one, or a value of the wrong type or out of range.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    values = dict(params)
    if isinstance(values.get("temperature"), Mapping):
        values["temperature"] = _construct("temperature schedule", Schedule, values["temperature"], {})
    provided = {"total_steps": total_steps, "num_samples": num_samples, "num_classes": num_classes}
    return _construct(f"loss {name!r}", LOSSES[name], values, provided)


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
