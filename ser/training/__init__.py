"""Training: tasks, crops, the loop, and what the loss did to the labels.

The names below are imported on first use. A reader of results, who needs ``ser.training.utterance_table`` alone, then
does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser.training.loop import DivergedError, EpochRecord, train
    from ser.training.state import load_state, save_state
    from ser.training.task import Subset, Task, make_task

_MODULES = {
    "DivergedError": "loop",
    "EpochRecord": "loop",
    "train": "loop",
    "load_state": "state",
    "save_state": "state",
    "Subset": "task",
    "Task": "task",
    "make_task": "task",
}

__all__ = ["DivergedError", "EpochRecord", "Subset", "Task", "load_state", "make_task", "save_state", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
