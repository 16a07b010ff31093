"""Loaders, one module per corpus."""
