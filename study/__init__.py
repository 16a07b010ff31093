"""The study: Ray Tune trials, Optuna search, MLflow records."""

import os

# A study of licensed speech, often on closed networks, must not report its use to anyone unasked.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tune's own progress report would run through the study's.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# Nor should every run that ends print its address.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
