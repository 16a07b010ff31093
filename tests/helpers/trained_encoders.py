"""Tiny speech encoders that were trained on a few tones, as a study saves them."""

from pathlib import Path
from typing import Any

from ser.config import Config
from ser.corpora import Corpus
from ser.features.store import open_store
from ser.models.encoders import find_encoder
from ser.splits import split
from ser.training import save_state, train
from ser.training.embeddings import extractor
from ser.training.loop import EpochRecord
from ser.training.task import make_task
from tests.helpers.tiny_encoders import tiny_encoder

FROZEN, FINE_TUNED = {"model.freeze": "base"}, {"model.freeze": "none"}
SHORT = {
    "training.epochs": 1,
    "training.batch_size": 8,
    "training.crop_seconds": 1.5,  # longer than any of the tones
    "training.precision": "float32",
}


def trained_encoder(
    folder: Path, corpus: Corpus, settings: dict[str, Any], kind: str = "WavLM", noise: str = "clean", **changes: Any
) -> tuple[Path, EpochRecord]:
    """Train a tiny encoder for an epoch on the last fold of a corpus.

    Args:
        folder: Folder for the encoder (``folder / "encoder"``), the feature store and the state.
        corpus: Corpus to train on.
        settings: ``FROZEN`` or ``FINE_TUNED``, and other keys of the configuration.
        kind: Beginning of the names of its classes in transformers.
        noise: Noise level.
        changes: Values of the encoder's configuration that differ.

    Returns:
        The file of the state, and the record of the epoch.
    """
    files = tiny_encoder(folder / "encoder", kind, **changes)
    pinned = {"model.name": f"hf:{files}", "model.revision": find_encoder(f"hf:{files}").revision}
    config = Config.from_dotted({**pinned, "optimizer.lr": 0.05, **SHORT, **settings})
    store = open_store(corpus, extractor(config), folder / "features")
    *_, record = train(config, make_task(corpus, split(corpus), store.path, noise, 0), seed=0, device="cpu")
    save_state(record.state, folder / "state.pt")
    return folder / "state.pt", record
