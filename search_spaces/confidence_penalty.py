"""Confidence penalty (Pereyra et al., ICLR 2017 workshop, arXiv 1701.06548).

Searched: the share ε of the entropy from .05 to .5, at which it has the same weight as the label. Point: the published
weight of the entropy relative to cross entropy, .1, which is ε/(1 − ε) here; hence ε = 1/11.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "confidence_penalty", "loss.epsilon": tune.uniform(0.05, 0.5), **OPTIMIZER}

POINTS = [{"loss.epsilon": 1 / 11, **OPTIMIZER_POINT}]
