"""Generalised cross entropy (Zhang and Sabuncu, NeurIPS 2018, arXiv 1805.07836).

Searched: the exponent q from .1 to 1. The loss is cross entropy for q → 0 and half the mean absolute error for q = 1.
Point: the published .7.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "generalized_cross_entropy", "loss.q": tune.uniform(0.1, 1.0), **OPTIMIZER}

POINTS = [{"loss.q": 0.7, **OPTIMIZER_POINT}]
