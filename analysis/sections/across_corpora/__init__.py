"""Across corpora."""
