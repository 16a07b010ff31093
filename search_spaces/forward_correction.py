"""Forward correction with an estimated transition matrix (Patrini et al., CVPR 2017, arXiv 1609.03683).

Searched: the share of the planned steps in the warm-up, from .2 to .8, and the quantile of the anchors. Published: the
quantile .97, and 1, the highest prediction, for CIFAR-100. The paper has no warm-up: it trains a network to the end for
the estimate, which would double the cost of a trial here; half of the steps is the choice of this project. Points: half
of the steps with each of the two quantiles.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {
    "loss.name": "forward_correction",
    "loss.warmup_ratio": tune.uniform(0.2, 0.8),
    "loss.quantile": tune.choice([0.97, 1.0]),
    **OPTIMIZER,
}

POINTS = [{"loss.warmup_ratio": 0.5, "loss.quantile": quantile, **OPTIMIZER_POINT} for quantile in (0.97, 1.0)]
