"""Speech emotion recognition from noisy labels: corpora, noise, features, models, losses, training, metrics.

This package contains the science of the project. It does not depend on Ray, Optuna or MLflow, so it can be used alone,
for example in a notebook.
"""
