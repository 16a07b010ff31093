"""Label smoothing (Szegedy et al., CVPR 2016, arXiv 1512.00567).

Searched: the share ε of the uniform distribution from .05 to .5, at which it has the same weight as the label. Point:
the published .1. For its effect on label noise see Lukasik et al., "Does label smoothing mitigate label noise?", ICML
2020 (arXiv 2003.02819).
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "label_smoothing", "loss.epsilon": tune.uniform(0.05, 0.5), **OPTIMIZER}

POINTS = [{"loss.epsilon": 0.1, **OPTIMIZER_POINT}]
