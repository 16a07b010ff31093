"""Losses by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ser.losses.base import Loss
from ser.losses.schedule import Schedule
from ser.utils.errors import UserError, unknown_name
from ser.utils.registry import resolve

Built = TypeVar("Built")

# Name → module of this package and class.
_CLASSES = {
    "cross_entropy": ("constant", "CrossEntropy"),
    "proselflc": ("proselflc", "ProSelfLC"),
    "reweighting_control": ("proselflc", "ReweightingControl"),
    "label_smoothing": ("constant", "LabelSmoothing"),
    "confidence_penalty": ("constant", "ConfidencePenalty"),
    "label_correction": ("constant", "LabelCorrection"),
    "generalized_cross_entropy": ("reshaped", "GeneralizedCrossEntropy"),
    "symmetric_cross_entropy": ("reshaped", "SymmetricCrossEntropy"),
    "normalized_losses": ("reshaped", "NormalizedLosses"),
    "elr": ("early_learning", "EarlyLearningRegularization"),
    "focal": ("reshaped", "FocalLoss"),
    "soft_labels": ("constant", "SoftLabels"),
    "mixup": ("mixup", "Mixup"),
    "forward_correction": ("forward", "ForwardCorrection"),
}

LOSSES: dict[str, type[Loss]] = {
    name: getattr(importlib.import_module(f"ser.losses.{module}"), kind) for name, (module, kind) in _CLASSES.items()
}
"""The built-in losses: name → class."""


def loss_class(name: str) -> type[Loss]:
    """Return the class of a loss.

    Args:
        name: A key of `LOSSES`, or the import path of a subclass of `Loss`, such as ``my_package.my_module.MyLoss``.

    Raises:
        UserError: If the name is unknown, or if the import path does not lead to a subclass of `Loss`.
    """
    return resolve("loss", name, LOSSES, Loss)


def build_loss(name: str, params: Mapping[str, Any], total_steps: int, num_samples: int, num_classes: int) -> Loss:
    """Build a loss by name and check its parameters against the signature of its class.

    Args:
        name: A key of `LOSSES`, or the import path of a subclass of `Loss`.
        params: Arguments of the class, except for the three below. ``temperature`` may be a number or a mapping of
            arguments of `Schedule`, such as ``{"kind": "linear", "start": 1.0, "end": 0.5}``.
        total_steps: Γ, planned number of optimiser steps; passed to losses that have such an argument.
        num_samples: Number of utterances in the training set; passed in the same way.
        num_classes: C; passed in the same way.

    Returns:
        The loss.

    Raises:
        UserError: If the loss or a parameter is unknown, or if a parameter is missing, of the wrong type or out of
            range.

    Example:
        >>> build_loss("label_smoothing", {"epsilon": 0.2}, total_steps=100, num_samples=8, num_classes=4)
        LabelSmoothing(epsilon=0.2)
    """
    values = dict(params)
    if isinstance(values.get("temperature"), Mapping):
        values["temperature"] = _construct("temperature schedule", Schedule, values["temperature"], {})
    provided = {"total_steps": total_steps, "num_samples": num_samples, "num_classes": num_classes}
    return _construct(f"loss {name!r}", loss_class(name), values, provided)


def _construct(what: str, make: Callable[..., Built], params: Mapping[str, Any], provided: Mapping[str, Any]) -> Built:
    """Call ``make`` with the user's parameters and with those provided values that it has arguments for."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    signature = {key: value for key, value in inspect.signature(make).parameters.items() if value.kind not in kinds}
    known = [key for key in signature if key not in provided]
    for key in params:
        if not known:
            raise UserError(f"{what} takes no parameters, got {key!r}. Remove it.")
        if key not in known:
            raise unknown_name(f"parameter of {what}:", key, known)
    missing = [key for key in known if signature[key].default is inspect.Parameter.empty and key not in params]
    if missing:
        raise UserError(f"{what} needs {' and '.join(missing)}: give a value for each.")
    return make(**params, **{key: value for key, value in provided.items() if key in signature})
