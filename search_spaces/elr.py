"""Early-learning regularisation (Liu et al., NeurIPS 2020, arXiv 2007.00151).

Searched: the weight λ of the regulariser and the momentum β of the moving average of predictions, in ranges that
include the published settings: 3 and .7 (CIFAR-10), 1 and .9 (CIFAR-10, asymmetric noise), 7 and .9 (CIFAR-100).
Points: these three. The upper bound of the momentum is .95, because each utterance is seen once per epoch: with .99
the moving average, which starts at 0, would reach 39 % of its final size in 50 epochs.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {
    "loss.name": "elr",
    "loss.strength": tune.loguniform(1.0, 10.0),
    "loss.momentum": tune.uniform(0.5, 0.95),
    **OPTIMIZER,
}

POINTS = [
    {"loss.strength": 3.0, "loss.momentum": 0.7, **OPTIMIZER_POINT},
    {"loss.strength": 1.0, "loss.momentum": 0.9, **OPTIMIZER_POINT},
    {"loss.strength": 7.0, "loss.momentum": 0.9, **OPTIMIZER_POINT},
]
