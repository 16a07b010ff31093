"""Soft labels: cross entropy against the annotators' distribution (Fayek, Lech and Cavedon, IJCNN 2016).

An oracle on the data side: it sees the votes at every noise level, and requires a corpus with votes. The loss has no
parameters. Searched: those of the optimiser, as in every other space.
"""

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "soft_labels", **OPTIMIZER}

POINTS = [OPTIMIZER_POINT]
