"""Cross entropy, the baseline, with AdamW (Loshchilov and Hutter, ICLR 2019).

The loss has no parameters. Searched: the peak learning rate and the weight decay of the optimiser, as in every other
space.
"""

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "cross_entropy", **OPTIMIZER}

POINTS = [OPTIMIZER_POINT]
