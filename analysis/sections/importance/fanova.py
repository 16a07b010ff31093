"""Functional ANOVA of a random forest: the share of its variance that each parameter explains alone.

Optuna computes the same in a loop over split points, which takes up to half a minute for 250 trials; here the boxes of
a tree's leaves give all marginal means at once. A choice is integrated over its options, each with the same weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

MAX_DEPTH = 64


def fanova(
    cube: NDArray[np.float64], options: Sequence[int], scores: NDArray[np.float64], trees: int, seed: int
) -> NDArray[np.float64]:
    """Compute the share of a forest's variance over the whole range that each parameter explains alone.

    Args:
        cube: (n, d) positions of the trials in the unit cube.
        options: (d,) number of options of a choice, whose positions are 0, 1 / (options − 1), …, 1; 0 for a number.
        scores: (n,) finite.
        trees: Size of the forest.
        seed: Seed of the forest.

    Returns:
        (d,) shares from 0 to 1, the mean over the trees that separate any trials; 0 if none does. The remainder to 1
        is due to interactions.

    Source:
        Hutter, Hoos and Leyton-Brown, ICML 2014.

    Example:
        >>> cube = np.random.default_rng(0).uniform(size=(50, 2))
        >>> fanova(cube, [0, 0], cube[:, 0], trees=8, seed=0).round(1).tolist()
        [1.0, 0.0]
    """
    encoded = [_encoded(column, count) for column, count in zip(cube.T, options, strict=True)]
    forest = RandomForestRegressor(n_estimators=trees, max_depth=MAX_DEPTH, random_state=seed)
    forest.fit(np.column_stack(encoded), scores)
    ends = np.cumsum([column.shape[1] for column in encoded])
    columns = [slice(end - column.shape[1], end) for end, column in zip(ends, encoded, strict=True)]
    shares = [_shares(_leaves(fitted.tree_), columns, options) for fitted in forest.estimators_]
    known = [share for share in shares if share is not None]
    return np.mean(known, axis=0) if known else np.zeros(len(options))


@dataclass(frozen=True)
class _Leaves:
    """Leaves of a tree: L boxes over E encoded columns.

    Args:
        values: (L,) predictions.
        low: (L, E) lower bounds, which are outside.
        high: (L, E) upper bounds, which are inside.
    """

    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def _encoded(column: NDArray[np.float64], options: int) -> NDArray[np.float64]:
    """Return (n, 1) numbers, or (n, options) indicators of a choice."""
    if not options:
        return column[:, None]
    return np.eye(options)[np.rint(column * (options - 1)).astype(np.int64)]


def _leaves(tree: Any) -> _Leaves:
    """Return the leaves of a fitted tree of scikit-learn."""
    low = np.full((tree.node_count, tree.n_features), -np.inf)
    high = np.full((tree.node_count, tree.n_features), np.inf)
    for node in np.flatnonzero(tree.children_left >= 0):  # a parent's number is below that of its children
        left, right, feature = tree.children_left[node], tree.children_right[node], tree.feature[node]
        low[[left, right]], high[[left, right]] = low[node], high[node]
        high[left, feature] = low[right, feature] = tree.threshold[node]
    leaf = tree.children_left < 0
    return _Leaves(tree.value[leaf, 0, 0], low[leaf], high[leaf])


def _shares(leaves: _Leaves, columns: Sequence[slice], options: Sequence[int]) -> NDArray[np.float64] | None:
    """Return each parameter's share of the variance of a tree; None if it predicts one value."""
    inside, weights = [], []
    for own, count in zip(columns, options, strict=True):
        places, weight = _places(leaves, own, count)
        low, high = leaves.low[:, None, own], leaves.high[:, None, own]
        inside.append(((low < places) & (places <= high)).all(axis=2))
        weights.append(weight)
    width = np.column_stack([there @ weight for there, weight in zip(inside, weights, strict=True)])  # (L, d)
    volume = width.prod(axis=1)
    mean = leaves.values @ volume
    variance = (leaves.values - mean) ** 2 @ volume
    if variance <= 0:
        return None
    found = []
    for parameter, (there, weight) in enumerate(zip(inside, weights, strict=True)):
        others = np.delete(width, parameter, axis=1).prod(axis=1)
        found.append(float(((leaves.values * others) @ there - mean) ** 2 @ weight))
    return np.array(found) / float(variance)


def _places(leaves: _Leaves, own: slice, options: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points, (S, columns), one in each part of a parameter's range that no split divides, and its (S,) size."""
    if options:
        return np.eye(options), np.full(options, 1 / options)
    splits = leaves.high[:, own]
    edges = np.concatenate([[0.0], np.unique(splits[np.isfinite(splits)]), [1.0]])
    return ((edges[1:] + edges[:-1]) / 2)[:, None], np.diff(edges)
