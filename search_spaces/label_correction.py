"""Label correction by a constant share, soft bootstrapping (Reed et al. 2014, arXiv 1412.6596).

Searched: the share ε of the model's own prediction from .05 to .5, at which it has the same weight as the label.
Points: the published weight of .95 on the label, and ε = .5, which is ProSelfLC (Wang et al., CVPR 2021) with B = 0 and
global trust.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "label_correction", "loss.epsilon": tune.uniform(0.05, 0.5), **OPTIMIZER}

POINTS = [{"loss.epsilon": 0.05, **OPTIMIZER_POINT}, {"loss.epsilon": 0.5, **OPTIMIZER_POINT}]
