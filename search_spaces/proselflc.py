"""ProSelfLC: progressive self label correction (Wang et al., CVPR 2021, arXiv 2005.03788), and its successor of 2022.

Searched, after Wang, Hua, Kodirov, Clifton and Robertson, "ProSelfLC: Progressive Self Label Correction for Training
Robust Deep Neural Networks": the base B of the global trust from 4 to 20, and its transit time τ, from .1 to .8 of the
planned steps. ``loss.target_gradient`` chooses between two published methods and is searched as well:

* ``True``: as in the paper and the code of 2021. The gradient flows through the corrected target, and T = 1.
* ``False``: as in the code of Wang et al. 2022 (arXiv 2207.00118). No gradient flows through the corrected target. The
  temperature T of the prediction that corrects the label is .4 to 1: it changes during training from ``start`` to
  ``end``, or stays at ``start`` for the kind ``constant``, which ignores ``end``.

At T = 1 the second only re-weights samples (``reweighting_control``), while the first minimises entropy as well.

Points:

1. The method of 2021 with the transit in the middle of training, τ .5, as in the paper. The paper has no default for B,
   its code tries 4 to 14 for each data set; 10 is the choice of this project.
2. The method of 2021 with τ .7 and B 6, the setting of the SER study that this one follows.
3. The method of 2022 with T = .5, one of its published temperatures, and τ and B as in the first point.
"""

from typing import Any

import optuna
from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT, suggest

TRUST = {
    "loss.trust": "entropy",
    "loss.transit_time_ratio": tune.uniform(0.1, 0.8),
    "loss.exp_base": tune.uniform(4.0, 20.0),
}
TEMPERATURE = {
    "loss.temperature.kind": tune.choice(["constant", "linear", "cosine"]),
    "loss.temperature.start": tune.quniform(0.4, 1.0, 0.1),
    "loss.temperature.end": tune.quniform(0.4, 1.0, 0.1),
}
GRADIENT = {"loss.target_gradient": tune.choice([True, False])}


def constant_temperature(value: float) -> dict[str, Any]:
    """Return the parameters of a constant temperature."""
    return {"loss.temperature.kind": "constant", "loss.temperature.start": value, "loss.temperature.end": value}


def SPACE(trial: optuna.Trial) -> dict[str, Any]:  # noqa: N802
    """Suggest the gradient, and for the method of 2022 the temperature, which is 1 for that of 2021."""
    values = suggest(trial, {"loss.name": "proselflc", **GRADIENT, **TRUST, **OPTIMIZER})
    return values | (constant_temperature(1.0) if values["loss.target_gradient"] else suggest(trial, TEMPERATURE))


POINTS = [
    {"loss.target_gradient": True, "loss.transit_time_ratio": 0.5, "loss.exp_base": 10.0, **OPTIMIZER_POINT},
    {"loss.target_gradient": True, "loss.transit_time_ratio": 0.7, "loss.exp_base": 6.0, **OPTIMIZER_POINT},
    {
        "loss.target_gradient": False,
        "loss.transit_time_ratio": 0.5,
        "loss.exp_base": 10.0,
        **constant_temperature(0.5),
        **OPTIMIZER_POINT,
    },
]
