"""Metrics: classification scores and agreement between annotators."""
