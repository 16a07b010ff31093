"""Projection of embeddings to the plane, and the attributes of nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

LEAST = 20
"""Smallest number of points that is projected."""
DIMENSIONS = 50
NEIGHBOURS = 10


def perplexity_of(count: int) -> float:
    """Return the perplexity for n points: 30 or n / 100, whichever is larger, but at most (n − 1) / 3.

    Source: Kobak and Berens, The art of using t-SNE for single-cell transcriptomics, Nature Communications 10, 2019;
    beyond the upper bound t-SNE has not enough neighbours (van der Maaten's own implementations).

    Args:
        count: n, at least 4.

    Example:
        >>> perplexity_of(31), perplexity_of(1000), perplexity_of(5000)
        (10.0, 30.0, 50.0)
    """
    return min(max(30.0, count / 100), (count - 1) / 3)


def tsne(vectors: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Project vectors to the plane by t-SNE.

    The vectors are first reduced to 50 principal components; the first two are the initial positions, so the result
    does not depend on a random start.

    Source: van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9, 2008.

    Args:
        vectors: (n, E), n at least ``LEAST``.
        seed: Seed of scikit-learn.

    Returns:
        (n, 2).
    """
    count = min(DIMENSIONS, *vectors.shape)
    reduced = PCA(count, svd_solver="full").fit_transform(vectors)
    model = TSNE(2, perplexity=perplexity_of(len(vectors)), init="pca", random_state=seed)
    # Its threads wait for each other in every step, which takes ten times as long where others use the cores.
    with threadpool_limits(1, user_api="openmp"):
        return np.asarray(model.fit_transform(reduced), dtype=np.float64)


def neighbour_agreement(
    vectors: NDArray[np.float64], names: Mapping[str, Sequence[str]], neighbours: int = NEIGHBOURS,
    metric: str = "cosine",
) -> pd.DataFrame:  # fmt: skip
    """Compute the share of nearest neighbours with the same attribute as an utterance.

    Args:
        vectors: (n, E) embeddings, n at least 2.
        names: Attribute → its n values.
        neighbours: Number of neighbours; all other utterances if there are fewer.
        metric: ``cosine`` for embeddings, ``euclidean`` for points in the plane.

    Returns:
        One row per attribute: ``attribute``; ``same``, the mean share of the neighbours with the same value;
        ``chance``, the mean share of all other utterances.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> neighbour_agreement(vectors, {"gender": ["f", "f", "m", "m"]}, neighbours=1)["same"].tolist()
        [1.0]
    """
    count = min(neighbours, len(vectors) - 1)
    # Called without query vectors, scikit-learn does not count a point as its own neighbour.
    nearest = NearestNeighbors(n_neighbors=count, metric=metric).fit(vectors).kneighbors(return_distance=False)
    rows = []
    for attribute, values in names.items():
        column = np.asarray(values, dtype=object)
        _, inverse, counts = np.unique(column.astype(str), return_inverse=True, return_counts=True)
        same = float((inverse[nearest] == inverse[:, None]).mean())
        chance = float((counts * (counts - 1)).sum() / (len(column) * (len(column) - 1)))
        rows.append({"attribute": attribute, "same": same, "chance": chance})
    return pd.DataFrame(rows)
