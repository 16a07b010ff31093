"""Features: what a model reads of an utterance, and their store on disk."""

from ser.features.front_ends import (
    FRONT_ENDS,
    SILENCE_DB,
    Extractor,
    FrontEnd,
    features,
    front_end,
    log_mel,
    named_extractor,
)
from ser.features.store import FeatureStore, open_store

__all__ = [
    "FRONT_ENDS",
    "SILENCE_DB",
    "Extractor",
    "FeatureStore",
    "FrontEnd",
    "features",
    "front_end",
    "log_mel",
    "named_extractor",
    "open_store",
]
