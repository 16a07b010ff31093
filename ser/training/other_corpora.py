"""Tests on other corpora than that of the training, after its last epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ser.features.store import FeatureStore
from ser.metrics.classification import restrict, scores

if TYPE_CHECKING:
    import pandas as pd

COUNTS = ("corpus", "speaker", "label", "correct", "total")
"""Columns of the counts of right predictions."""


@dataclass(frozen=True)
class OtherTest:
    """Test utterances of another corpus, of the classes that the training shares with it.

    Args:
        name: Name of the corpus in records.
        store: Folder of its feature store, of the front end that the training reads.
        classes: S names of the shared classes, as the training has them.
        columns: S outputs of the network that they are.
        rows: (n,) positions in the feature store.
        truth: (n,) true class indices 0…S−1.
        speakers: n names.
    """

    name: str
    store: Path
    classes: tuple[str, ...]
    columns: tuple[int, ...]
    rows: NDArray[np.int64]
    truth: NDArray[np.int64]
    speakers: tuple[str, ...]


def score_others(
    others: Sequence[OtherTest], predict: Callable[[FeatureStore, NDArray[np.int64]], NDArray[np.float64]]
) -> tuple[dict[str, float], pd.DataFrame | None]:
    """Score a trained model on other corpora.

    A prediction is the most probable of the shared classes; their probabilities are renormalised.

    Args:
        others: The corpora.
        predict: (feature store, (n,) rows) → (n, C) probabilities of the training's classes.

    Returns:
        ``test/CORPUS/*``, every metric of ``ser.metrics.classification.METRICS``; and the right predictions, one row
        for each corpus, speaker and class that occurs, with the columns ``COUNTS``; None without other corpora.
    """
    if not others:
        return {}, None
    import pandas as pd  # imported here because only the last epoch of a run needs pandas

    metrics: dict[str, float] = {}
    tables = []
    for other in others:
        probabilities = restrict(predict(FeatureStore.open(other.store), other.rows), other.columns)
        metrics |= {f"test/{other.name}/{name}": value for name, value in scores(probabilities, other.truth).items()}
        names = np.array(other.classes, dtype=object)
        table = pd.DataFrame({"speaker": other.speakers, "label": names[other.truth]})
        table["correct"] = (probabilities.argmax(axis=1) == other.truth).astype(np.int64)
        counts = table.groupby(["speaker", "label"], sort=True)["correct"].agg(correct="sum", total="count")
        tables.append(counts.reset_index().assign(corpus=other.name))
    return metrics, pd.concat(tables, ignore_index=True)[list(COUNTS)]
