"""Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002).

Searched: the exponent γ from 0, which is cross entropy, to 5, as in the paper. Point: the published 2. The loss is
meant for rare classes, not for wrong labels; it is included as a common choice in speech emotion recognition.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "focal", "loss.gamma": tune.uniform(0.0, 5.0), **OPTIMIZER}

POINTS = [{"loss.gamma": 2.0, **OPTIMIZER_POINT}]
