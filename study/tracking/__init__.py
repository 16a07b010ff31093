"""MLflow: writing and reading records."""
