"""A GPU whose tensors are those of the CPU, for tests of what embeddings ask of a device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ser.features.store import FeatureStore
from ser.training import embeddings
from ser.training.device.features import DeviceFeatures


def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Let torch see a GPU: networks, tensors and features that are moved there stay where they are.

    Returns:
        The types of what is moved there, in order, filled from now on.
    """
    moved: list[type] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for kind in (Tensor, nn.Module):
        monkeypatch.setattr(kind, "to", _noting(kind.to, moved))

    def features(store: FeatureStore, device: torch.device) -> DeviceFeatures:
        moved.extend([Tensor] * (device.type == "cuda"))
        return DeviceFeatures(store, torch.device("cpu"))

    monkeypatch.setattr(embeddings, "DeviceFeatures", features)
    return moved


def _noting(to: Callable[..., Any], moved: list[type]) -> Callable[..., Any]:
    def noting(self: Any, *given: Any, **named: Any) -> Any:
        values = [*given, *named.values()]
        if any(isinstance(value, str | torch.device) and torch.device(value).type == "cuda" for value in values):
            moved.append(type(self))
            given = tuple(value for value in given if not isinstance(value, str | torch.device))
            named = {key: value for key, value in named.items() if key != "device"}
        return to(self, *given, **named) if given or named else self

    return noting
