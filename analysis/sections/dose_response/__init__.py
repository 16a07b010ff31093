"""Dose–response."""
