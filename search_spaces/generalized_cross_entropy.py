"""Generalised cross entropy (Zhang and Sabuncu, NeurIPS 2018, arXiv 1805.07836).

Its exponent q in (0, 1]: near 0 it is cross entropy, at 1 mean absolute error. Point: the published .7.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "generalized_cross_entropy", "loss.q": tune.uniform(0.1, 1.0), **OPTIMIZER}

POINTS = [{"loss.q": 0.7, **OPTIMIZER_POINT}]
