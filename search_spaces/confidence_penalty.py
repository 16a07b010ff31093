"""Confidence penalty (Pereyra et al., ICLR 2017 workshop, arXiv 1701.06548).

The share ε of the entropy over .05 to .5, where it weighs as much as the label. Point: the published weight .1 of the
entropy beside cross entropy, which is ε/(1 − ε) here, so ε = 1/11.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "confidence_penalty", "loss.epsilon": tune.uniform(0.05, 0.5), **OPTIMIZER}

POINTS = [{"loss.epsilon": 1 / 11, **OPTIMIZER_POINT}]
