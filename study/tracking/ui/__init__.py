"""MLflow's UI: links into it, and views saved for it."""
