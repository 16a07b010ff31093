"""Significance."""
