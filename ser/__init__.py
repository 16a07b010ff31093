"""Speech emotion recognition from noisy labels: corpora, noise, features, models, losses, training.

The science of the project. It knows nothing of Ray, Optuna or MLflow and works alone, in a notebook or on a
machine without them.
"""
