"""ProSelfLC: progressive self label correction (Wang et al., CVPR 2021, arXiv 2005.03788).

Wang, Hua, Kodirov, Clifton and Robertson, "ProSelfLC: Progressive Self Label Correction for Training Robust Deep
Neural Networks": the global trust's exponent base B over 4 to 20 and its transit time τ over .1 to .8 of the planned
steps. Wang et al. 2022 (arXiv 2207.00118): a temperature T below 1, from 1 down to .4, lowers the entropy of the
correcting knowledge. The entropy schedule is that temperature over training time; for the kind ``constant`` only
``start`` is read.

Points: the paper's midway transit (τ .5) with a B inside the range that it recommends, the SER study's setting (τ .7,
B 6), both with T = 1, and the 2022 paper's low temperature.
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
