"""The study: Ray Tune trials, Optuna search, MLflow records."""

import os

# MLflow and Ray read these when they are imported, so they are set here and not in a command. Corpora are licensed and
# often studied on closed networks: no usage statistics unless a user asks for them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tune's own progress report would be printed between the lines of the study's.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# Every run that ends would print its address.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
