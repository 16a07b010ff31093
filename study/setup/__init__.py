"""Preparation of a study: checks, spaces, confirmation plans."""
