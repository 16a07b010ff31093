"""Mixup (Zhang et al., ICLR 2018, arXiv 1710.09412).

Searched: the parameter α of the Beta distribution of the mixing share, from .01, at which nearly every mixture is one
of the two utterances, to 10, at which most are nearly half of each. The range includes the published values and is that
of the weight α of symmetric cross entropy, because the two share it in ``all_losses``. Points: .2, the value for
ImageNet and speech commands; 1, for CIFAR; 8, for CIFAR-10 with corrupted labels (section 3.4). The first is the
default because the share of wrong labels is not known beforehand.
"""

from ray import tune

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "mixup", "loss.alpha": tune.loguniform(0.01, 10.0), **OPTIMIZER}

POINTS = [{"loss.alpha": alpha, **OPTIMIZER_POINT} for alpha in (0.2, 1.0, 8.0)]
