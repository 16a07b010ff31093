"""Cross entropy: the baseline that every other loss must beat.

It has no parameter of its own, so its budget goes into the optimiser's: the peak learning rate and the weight decay of
AdamW (Loshchilov and Hutter, ICLR 2019). The same two are searched in every other space.
"""

from ray import tune

SPACE = {
    "loss.name": "cross_entropy",
    "optimizer.lr": tune.loguniform(3e-4, 1e-2),
    "optimizer.weight_decay": tune.loguniform(1e-4, 1e-1),
}

POINTS = [{"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-2}]
