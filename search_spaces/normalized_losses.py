"""Normalised plus reverse cross entropy, NCE+RCE (Ma et al., ICML 2020, arXiv 2006.13554).

Searched: the weights α of normalised and β of reverse cross entropy. Published: 1 and 10 for digits, 1 and 1 for ten
classes, 10 and .1 for a hundred classes. The ranges are those of symmetric cross entropy, because the two share them in
``all_losses``. Points: the three published settings, that for ten classes first. log 0 is −9.21, as in the published
code, which clips labels at 1e-4.
"""

import math

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {
    "loss.name": "normalized_losses",
    "loss.log_zero": math.log(1e-4),
    "loss.alpha": tune.loguniform(0.01, 10.0),
    "loss.beta": tune.loguniform(0.1, 10.0),
    **OPTIMIZER,
}

POINTS = [
    {"loss.alpha": 1.0, "loss.beta": 1.0, **OPTIMIZER_POINT},
    {"loss.alpha": 1.0, "loss.beta": 10.0, **OPTIMIZER_POINT},
    {"loss.alpha": 10.0, "loss.beta": 0.1, **OPTIMIZER_POINT},
]
