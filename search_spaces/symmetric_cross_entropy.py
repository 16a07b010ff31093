"""Symmetric cross entropy (Wang et al., ICCV 2019, arXiv 1908.06112).

Searched: the weights α of cross entropy and β of reverse cross entropy, in the orders of magnitude of the published
settings: .01 and 1 for digits, .1 and 1 for ten classes, 6 and .1 for a hundred classes. Points: the latter two. log 0
is −9.21, as in the published code, which clips labels at 1e-4; the text of the paper has −4.
"""

import math

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {
    "loss.name": "symmetric_cross_entropy",
    "loss.log_zero": math.log(1e-4),
    "loss.alpha": tune.loguniform(0.01, 10.0),
    "loss.beta": tune.loguniform(0.1, 10.0),
    **OPTIMIZER,
}

POINTS = [
    {"loss.alpha": 0.1, "loss.beta": 1.0, **OPTIMIZER_POINT},
    {"loss.alpha": 6.0, "loss.beta": 0.1, **OPTIMIZER_POINT},
]
