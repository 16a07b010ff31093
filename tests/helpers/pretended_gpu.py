"""A GPU whose tensors are those of the CPU, for tests of what is asked of a device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Let torch see a GPU: what is moved there stays where it is.

    Returns:
        The types of what is moved there, in order, filled from now on.
    """
    moved: list[type] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for kind in (Tensor, nn.Module):
        monkeypatch.setattr(kind, "to", _noting(kind.to, moved))
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
