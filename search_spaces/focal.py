"""Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002).

Its exponent γ over the 0 to 5 that the paper tried; 0 is cross entropy. Point: the published 2. It is made for rare
classes, not for wrong labels, and stands here as what a speech emotion study would otherwise reach for.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "focal", "loss.gamma": tune.uniform(0.0, 5.0), **OPTIMIZER}

POINTS = [{"loss.gamma": 2.0, **OPTIMIZER_POINT}]
