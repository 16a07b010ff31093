"""Classical classifiers on one vector per utterance: scikit-learn with the values of Sahu 2019 (arXiv 1904.06022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ser.utils.checks import check_count, check_range
from ser.utils.errors import unknown_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sklearn.base import ClassifierMixin

FRONT_ENDS = ("handcrafted_16k", "egemaps_16k")
"""The front ends that they can read; the first one is the default."""

# An upper bound: the MLP stops earlier when its training loss no longer falls.
MAX_MLP_EPOCHS = 1000


class Parameter(NamedTuple):
    """Hyper-parameter: its default, which is the published value, and its range. Integral if the default is."""

    default: float
    least: float
    most: float


CLASSICAL: dict[str, dict[str, Parameter]] = {
    "random_forest": {
        "trees": Parameter(1200, 1, 100_000),
        "min_samples_split": Parameter(25, 2, 1_000_000),
    },
    "mlp": {
        "units": Parameter(650, 1, 100_000),
        "alpha": Parameter(1e-4, 0.0, 1e6),
    },
    "gradient_boosting": {
        "depth": Parameter(7, 1, 100),
        "learning_rate": Parameter(0.008, 1e-6, 10.0),
        "rounds": Parameter(1200, 1, 100_000),
    },
}
"""Name → hyper-parameters. ``random_forest``: number of trees, fewest utterances of a node that is split. ``mlp``:
number of hidden units, L2 penalty. ``gradient_boosting``: depth of the trees, learning rate, number of rounds."""


def build_classical(name: str, parameters: Mapping[str, Any], seed: int) -> ClassifierMixin:
    """Build an untrained classifier.

    Args:
        name: A key of ``CLASSICAL``. ``random_forest`` is Breiman's (2001); ``mlp`` has one hidden layer of rectified
            linear units, trained with Adam on standardised features; ``gradient_boosting`` works on histograms of the
            features, without early stopping. None of them balances classes by itself: see ``fit_classical``.
        parameters: Hyper-parameters by name; those that are left out have their published values.
        seed: Integer from 0 to 2³² − 1.

    Returns:
        A scikit-learn classifier with ``fit``, ``predict_proba`` and ``classes_``.

    Raises:
        UserError: If the name is unknown, or if a hyper-parameter is unknown or out of range.
    """
    if name not in CLASSICAL:
        raise unknown_name("classical model", name, CLASSICAL)
    values = {key: parameter.default for key, parameter in CLASSICAL[name].items()}
    for key, value in parameters.items():
        if key not in values:
            raise unknown_name(f"parameter of model {name}", key, values)
        default, least, most = CLASSICAL[name][key]
        if isinstance(default, int):
            check_count(f"model.{key}", value, int(least))
        check_range(f"model.{key}", value, least, most)
        values[key] = value
    # Imports are local because they take half a second.
    if name == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(values["trees"], min_samples_split=values["min_samples_split"], random_state=seed)
    if name == "mlp":
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        network = MLPClassifier((values["units"],), alpha=values["alpha"], max_iter=MAX_MLP_EPOCHS, random_state=seed)
        return make_pipeline(StandardScaler(), network)
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_depth=values["depth"],
        learning_rate=values["learning_rate"],
        max_iter=values["rounds"],
        early_stopping=False,
        random_state=seed,
    )


def fit_classical(
    classifier: ClassifierMixin,
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> None:
    """Fit a classifier of ``build_classical``.

    Args:
        classifier: Untrained classifier.
        features: (n, M) vectors.
        labels: (n,) class indices.
        weights: (n,) weights of the vectors in its loss or impurity, such as the inverse frequency of their classes;
            None for equal ones.
    """
    from sklearn.pipeline import Pipeline

    # A pipeline hands a parameter to the step that it is named after.
    name = f"{classifier.steps[-1][0]}__sample_weight" if isinstance(classifier, Pipeline) else "sample_weight"
    classifier.fit(features, labels, **{name: weights})
