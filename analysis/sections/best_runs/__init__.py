"""Best runs."""
