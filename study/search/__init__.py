"""The search: Optuna's study behind Ray Tune's interfaces."""
