"""All losses in one conditional space: the loss is searched too, each with its own parameters (sources: their spaces).

Ranges are those of the losses' own spaces, from Reed et al. 2014 to Wang et al. 2021; what two losses share under one
name has the same range in both. Points: the first of each space. Without ``soft_labels``, which sees the votes: an
oracle would win a search that picks among losses, and most corpora have none.

Such a search gives a loss the more trials the better it looks. To compare losses on equal terms, search their own
spaces.
"""

from typing import Any

import optuna
from ray.tune.search.sample import Categorical, LogUniform, Quantized

from search_spaces import (
    confidence_penalty,
    cross_entropy,
    elr,
    focal,
    generalized_cross_entropy,
    label_correction,
    label_smoothing,
    normalized_losses,
    proselflc,
    reweighting_control,
    symmetric_cross_entropy,
)

SPACES = {
    space.SPACE["loss.name"]: space
    for space in (
        cross_entropy,
        proselflc,
        reweighting_control,
        label_smoothing,
        confidence_penalty,
        label_correction,
        generalized_cross_entropy,
        symmetric_cross_entropy,
        normalized_losses,
        elr,
        focal,
    )
}

POINTS = [{"loss.name": name, **space.POINTS[0]} for name, space in SPACES.items()]


def SPACE(trial: optuna.Trial) -> dict[str, Any]:  # noqa: N802
    """Draws a loss, then what its own space searches; returns that space's constants."""
    space = SPACES[trial.suggest_categorical("loss.name", list(SPACES))].SPACE
    constants = {}
    for key, domain in space.items():
        sampler = getattr(domain, "sampler", None)
        if sampler is None:
            constants[key] = domain
        elif isinstance(domain, Categorical):
            trial.suggest_categorical(key, domain.categories)
        else:
            step = sampler.q if isinstance(sampler, Quantized) else None
            trial.suggest_float(key, domain.lower, domain.upper, step=step, log=isinstance(sampler, LogUniform))
    return constants
