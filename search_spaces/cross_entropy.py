"""Cross entropy: the baseline that every other loss must beat, searched with AdamW (Loshchilov and Hutter, ICLR 2019).

It has no parameter of its own, so its budget goes into the optimiser's: the peak learning rate and the weight decay.
The same two are searched in every other space.
"""

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "cross_entropy", **OPTIMIZER}

POINTS = [OPTIMIZER_POINT]
