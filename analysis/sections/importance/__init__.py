"""Importance."""
