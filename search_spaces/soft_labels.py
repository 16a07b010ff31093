"""Soft labels: cross entropy against the annotators' distribution (Fayek, Lech and Cavedon, IJCNN 2016).

An oracle on the data side: it sees the votes, whatever the noise level made of the labels, so only a corpus with votes
can be searched. It has no parameter of its own; the optimiser's are searched as in every other space.
"""

from search_spaces import OPTIMIZER, OPTIMIZER_POINT

SPACE = {"loss.name": "soft_labels", **OPTIMIZER}

POINTS = [OPTIMIZER_POINT]
