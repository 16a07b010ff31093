"""Metrics: classification scores, agreement between annotators."""
