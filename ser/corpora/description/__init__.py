"""Descriptions of a corpus: computed, printed, drawn."""
