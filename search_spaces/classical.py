"""Classical models on eight handcrafted features of each utterance (Sahu 2019, arXiv 1904.06022).

A random forest (Breiman 2001), an MLP with one hidden layer and gradient boosting on histograms, each with its main
hyper-parameters in ranges around the values that Sahu 2019 published for speech emotion recognition. None of them has a
robust loss. Points: the published values; the L2 penalty of the MLP is the default of scikit-learn.
"""

from typing import Any

import optuna

POINTS: list[dict[str, Any]] = [
    {"model.name": "random_forest", "model.trees": 1200, "model.min_samples_split": 25},
    {"model.name": "mlp", "model.units": 650, "model.alpha": 1e-4},
    {"model.name": "gradient_boosting", "model.depth": 7, "model.learning_rate": 0.008, "model.rounds": 1200},
]


def SPACE(trial: optuna.Trial) -> None:  # noqa: N802
    """Suggest a model and its hyper-parameters."""
    name = trial.suggest_categorical("model.name", ["random_forest", "mlp", "gradient_boosting"])
    if name == "random_forest":
        trial.suggest_int("model.trees", 100, 2000, log=True)
        trial.suggest_int("model.min_samples_split", 2, 100, log=True)
    elif name == "mlp":
        trial.suggest_int("model.units", 50, 1000, log=True)
        trial.suggest_float("model.alpha", 1e-6, 1.0, log=True)
    else:
        trial.suggest_int("model.depth", 2, 12)
        trial.suggest_float("model.learning_rate", 2e-3, 0.2, log=True)
        trial.suggest_int("model.rounds", 100, 1500, log=True)
