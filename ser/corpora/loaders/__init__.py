"""Corpus loaders, one module per corpus."""
