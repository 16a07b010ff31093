"""ProSelfLC: progressive self label correction (Wang et al., CVPR 2021, arXiv 2005.03788).

Searched, after Wang, Hua, Kodirov, Clifton and Robertson, "ProSelfLC: Progressive Self Label Correction for Training
Robust Deep Neural Networks": the base B of the global trust from 4 to 20, and its transit time τ, from .1 to .8 of the
planned steps. After Wang et al. 2022 (arXiv 2207.00118): the temperature T from .4 to 1, which lowers the entropy of
the prediction that corrects the label. T changes during training from ``start`` to ``end``, or stays at ``start`` for
the kind ``constant``, which ignores ``end``.

Points: transit in the middle of training (τ .5) with a B in the range that the paper recommends; the setting of the SER
study that this one follows (τ .7, B 6); both with T = 1. Third, the low temperature of the 2022 paper.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {
    "loss.name": "proselflc",
    "loss.trust": "entropy",
    "loss.transit_time_ratio": tune.uniform(0.1, 0.8),
    "loss.exp_base": tune.uniform(4.0, 20.0),
    "loss.temperature.kind": tune.choice(["constant", "linear", "cosine"]),
    "loss.temperature.start": tune.quniform(0.4, 1.0, 0.1),
    "loss.temperature.end": tune.quniform(0.4, 1.0, 0.1),
    **OPTIMIZER,
}


def _point(transit_time_ratio: float, exp_base: float, temperature: float) -> dict[str, float | str]:
    return {
        "loss.transit_time_ratio": transit_time_ratio,
        "loss.exp_base": exp_base,
        "loss.temperature.kind": "constant",
        "loss.temperature.start": temperature,
        "loss.temperature.end": temperature,
        **OPTIMIZER_POINT,
    }


POINTS = [_point(0.5, 10.0, 1.0), _point(0.7, 6.0, 1.0), _point(0.5, 10.0, 0.5)]
