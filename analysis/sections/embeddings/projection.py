"""Embeddings of utterances in the plane, and what lies near what: computed from the vectors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

LEAST = 20
"""Fewer points are not projected."""
DIMENSIONS = 50
NEIGHBOURS = 10


def perplexity_of(count: int) -> float:
    """The perplexity for so many points: 30, or a hundredth of them, but at most a third of their number.

    Source: Kobak and Berens, The art of using t-SNE for single-cell transcriptomics, Nature Communications 10, 2019;
    the upper bound is that beyond which t-SNE has not enough neighbours (van der Maaten's own implementations).

    Args:
        count: n, at least 4.
    """
    return min(max(30.0, count / 100), (count - 1) / 3)


def tsne(vectors: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Points in the plane, near where the vectors are near.

    The vectors are first reduced to 50 principal components; the first two begin the descent, so that the result
    follows from the data and not from a random start.

    Source: van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9, 2008.

    Args:
        vectors: (n, E), n at least ``LEAST``.
        seed: For what scikit-learn draws.

    Returns:
        (n, 2).
    """
    count = min(DIMENSIONS, *vectors.shape)
    reduced = PCA(count, svd_solver="full").fit_transform(vectors)
    model = TSNE(2, perplexity=perplexity_of(len(vectors)), init="pca", random_state=seed)
    return np.asarray(model.fit_transform(reduced), dtype=np.float64)


def neighbour_agreement(
    vectors: NDArray[np.float64], names: Mapping[str, Sequence[str]], neighbours: int = NEIGHBOURS
) -> pd.DataFrame:
    """How often an utterance's nearest neighbours, by cosine, have its emotion, its gender, its speaker.

    Args:
        vectors: (n, E) embeddings, n at least 2.
        names: What is told → the n names.
        neighbours: How many are looked at; all others where there are fewer.

    Returns:
        One row for each: ``attribute``; ``same``, the mean share of the neighbours with the same name; ``chance``,
        that among all other utterances.
    """
    count = min(neighbours, len(vectors) - 1)
    # Without vectors to query, scikit-learn leaves out each point itself.
    nearest = NearestNeighbors(n_neighbors=count, metric="cosine").fit(vectors).kneighbors(return_distance=False)
    rows = []
    for attribute, values in names.items():
        column = np.asarray(values, dtype=object)
        _, inverse, counts = np.unique(column.astype(str), return_inverse=True, return_counts=True)
        same = float((inverse[nearest] == inverse[:, None]).mean())
        chance = float((counts * (counts - 1)).sum() / (len(column) * (len(column) - 1)))
        rows.append({"attribute": attribute, "same": same, "chance": chance})
    return pd.DataFrame(rows)
