"""All losses in one conditional space, which searches the loss too (sources: the spaces of the losses).

Each loss has the ranges of its own space, from Reed et al. 2014 to Wang et al. 2021. Two losses with a parameter of the
same name have the same range for it. Points: the first of each space. ``soft_labels`` is left out: it is an oracle that
sees the votes, so it would win a search that chooses among losses, and most corpora have no votes.

Such a search spends more trials on losses that look better. To compare losses on equal terms, search their own spaces.
"""

import importlib
from typing import Any

import optuna

from search_spaces import suggest

LOSSES = (
    "cross_entropy",
    "proselflc",
    "reweighting_control",
    "label_smoothing",
    "confidence_penalty",
    "label_correction",
    "generalized_cross_entropy",
    "symmetric_cross_entropy",
    "normalized_losses",
    "elr",
    "focal",
    "mixup",
    "forward_correction",
)
SPACES = {name: importlib.import_module(f"search_spaces.{name}") for name in LOSSES}

POINTS = [{"loss.name": name, **space.POINTS[0]} for name, space in SPACES.items()]


def SPACE(trial: optuna.Trial) -> dict[str, Any]:  # noqa: N802
    """Suggest a loss and the parameters that its own space searches, and return the constants of that space."""
    space = SPACES[trial.suggest_categorical("loss.name", list(SPACES))].SPACE
    return space(trial) if callable(space) else suggest(trial, space)
