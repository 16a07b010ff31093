"""Classifiers of one vector per utterance, by name: scikit-learn's, with the values of Sahu 2019 (arXiv 1904.06022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ser.utils.checks import check_count, check_range
from ser.utils.errors import unknown_name

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

FRONT_ENDS = ("handcrafted_16k", "egemaps_16k")
"""What they read: the first, unless asked otherwise."""

# The MLP stops by itself once its training loss rests.
_MOST_PASSES = 1000


class Parameter(NamedTuple):
    """A hyper-parameter: its default, which is the published value, and its range; whole if the default is."""

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
"""Name → hyper-parameters: ``trees`` and the fewest utterances that a node is split at; hidden ``units`` and the L2
penalty; the trees' ``depth``, ``learning_rate`` and ``rounds``."""


def build_classical(name: str, parameters: Mapping[str, Any], seed: int) -> ClassifierMixin:
    """An untrained classifier.

    Args:
        name: A key of ``CLASSICAL``. ``random_forest`` (Breiman 2001) weights classes by their inverse frequency;
            ``mlp`` has one hidden layer of rectified units, trained by Adam on standardised features;
            ``gradient_boosting`` is that of histograms, without early stopping.
        parameters: Its hyper-parameters; what is not named keeps its published value.
        seed: Any integer from 0 to 2³² − 1.

    Returns:
        A scikit-learn classifier with ``fit``, ``predict_proba`` and ``classes_``.

    Raises:
        UserError: An unknown name, or a hyper-parameter that is unknown or out of range.
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
    # Imported where they are needed, for they take half a second.
    if name == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(
            values["trees"], min_samples_split=values["min_samples_split"], class_weight="balanced", random_state=seed
        )
    if name == "mlp":
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        network = MLPClassifier((values["units"],), alpha=values["alpha"], max_iter=_MOST_PASSES, random_state=seed)
        return make_pipeline(StandardScaler(), network)
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_depth=values["depth"],
        learning_rate=values["learning_rate"],
        max_iter=values["rounds"],
        early_stopping=False,
        random_state=seed,
    )
