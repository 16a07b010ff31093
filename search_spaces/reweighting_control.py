"""Re-weighting control: the weights of ProSelfLC without its correction (Wang et al., CVPR 2021, arXiv 2005.03788).

If no gradient flows through the target and T = 1, the gradient of ProSelfLC is that of cross entropy with each sample
scaled by 1 − ε. The control has this re-weighting only, which separates its effect from that of the correction. Its
temperature changes the weights alone. Ranges and points: those of ProSelfLC.
"""

from search_spaces import OPTIMIZER, OPTIMIZER_POINT
from search_spaces.proselflc import TEMPERATURE, TRUST, constant_temperature

SPACE = {"loss.name": "reweighting_control", **TRUST, **TEMPERATURE, **OPTIMIZER}

POINTS = [
    {
        "loss.transit_time_ratio": transit_time_ratio,
        "loss.exp_base": exp_base,
        **constant_temperature(temperature),
        **OPTIMIZER_POINT,
    }
    for transit_time_ratio, exp_base, temperature in ((0.5, 10.0, 1.0), (0.7, 6.0, 1.0), (0.5, 10.0, 0.5))
]
