"""Commands of the study, one module per script."""
