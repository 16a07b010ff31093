"""Compare the time of an epoch of a linear probe on stored embeddings with that of the same network, frozen.

python benchmarks/embedding.py --corpus ravdess --corpus-root PATH

Both start from the same file with the initial weights of CNN14, in PANNs' form; the time does not depend on
the weights.
"""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path

import torch
import tyro

from ser.config import Config
from ser.corpora import load
from ser.features.store import open_store
from ser.models import build_model
from ser.splits import split
from ser.training import train
from ser.training.embeddings import extractor
from ser.training.task import make_task

VARIANTS = {
    "frozen": {"model.name": "cnn14", "model.freeze": "base"},
    "embedding head": {"model.name": "embedding_head", "model.base": "cnn14"},
}


def main(corpus: str, corpus_root: Path | None = None, width: float = 1.0, epochs: int = 2) -> None:
    """Print the table.

    Args:
        corpus: Name of a corpus.
        corpus_root: Folder of the corpus; ``synthetic`` needs none.
        width: Scale of CNN14's channels.
        epochs: Number of epochs to train, at least 2; the first is not measured.
    """
    read = load(corpus, corpus_root)
    fold = split(read)
    threads = torch.get_num_threads()
    print(f"{platform.machine()}, {threads} threads, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"{corpus}: {len(fold.train)} + {len(fold.validation)} utterances, CNN14 × {width:g}; {epochs} epochs")
    print(f"{'variant':<16}{'features, once, CPU s':>23}{'s / epoch':>12}{'CPU s / epoch':>15}{'speed':>9}")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        torch.manual_seed(0)
        torch.save({"model": build_model("cnn14", 2, width).state_dict()}, weights)
        plain = 0.0
        for name, values in VARIANTS.items():
            settings = {"model.width": width, "model.pretrained": str(weights), "training.epochs": epochs, **values}
            config = Config.from_dotted(settings)
            began = time.process_time()
            store = open_store(read, extractor(config), Path(folder))
            features = time.process_time() - began
            for record in train(config, make_task(read, fold, store.path, "clean", 0), seed=0):
                if record.epoch == 1:
                    start, began = time.perf_counter(), time.process_time()
            wall, used = (now / (epochs - 1) for now in (time.perf_counter() - start, time.process_time() - began))
            plain = plain or used
            print(f"{name:<16}{features:>23.1f}{wall:>12.2f}{used:>15.2f}{plain / used:>8.0f}×", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
