"""Emotional speech corpora, all loaded into the same table.

A corpus of your own needs no edit here: pass the import path of its loader, ``my_package.my_module.load_mine``.
"""

from __future__ import annotations

from ser.corpora.corpus import Corpus
from ser.corpora.loader_result import LoaderResult, without
from ser.corpora.loaders.huggingface import from_dataset
from ser.corpora.registry import FORMATS, NAMES, check_name, load, needs_root, parse_options

__all__ = [
    "FORMATS",
    "NAMES",
    "Corpus",
    "LoaderResult",
    "check_name",
    "from_dataset",
    "load",
    "needs_root",
    "parse_options",
    "without",
]
