"""Trainings of every loss and network on the fake GPU, with tiny settings and made-up features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ser.config import Config
from ser.features.front_ends import FrontEnd
from ser.features.store import FORMAT
from ser.models import build_model
from ser.training import Subset, Task
from ser.training.embeddings import extractor
from ser.training.loop import EpochRecord, train
from tests.helpers.fake_cuda import Call, FakeGpu, Wait

CLASSES = ("angry", "calm", "happy")
TRAIN, VALIDATION, STEPS = 16, 6, 4  # utterances of both, and steps of an epoch
SELF_CORRECTION = {"loss.transit_time_ratio": 0.5, "loss.exp_base": 10.0}
PARAMETERS: dict[str, dict[str, Any]] = {
    "proselflc": SELF_CORRECTION,
    "reweighting_control": SELF_CORRECTION,
    "confidence_penalty": {"loss.epsilon": 0.1},
    "label_correction": {"loss.epsilon": 0.1},
    "label_smoothing": {"loss.epsilon": 0.1},
    "mixup": {"loss.alpha": 1.0},
}
BASE = {
    "model.dropout": 0.0,
    "training.epochs": 4,
    "training.batch_size": 4,
    "training.crop_seconds": 0.4,
    "training.precision": "float32",
}
WIDTHS = {"cnn14": 1 / 64, "cnn10": 1 / 32, "cnn6": 1 / 32, "bilstm": 0.03}


def make_config(network: str, loss: str, folder: Path, **changes: Any) -> Config:
    """Return a configuration.

    Args:
        network: ``cnn14``, ``cnn10``, ``cnn6``, ``bilstm``; ``linear_probe`` on vectors of CNN6; ``layers``, a head on
            the layers of a frozen speech encoder; or ``encoder``, one that is fine-tuned.
        loss: Key of ``ser.losses.LOSSES``.
        folder: Folder for files of weights.
        changes: Further values, such as ``training__precision="bfloat16"``.
    """
    model: dict[str, Any] = {"model.name": network, "model.width": WIDTHS.get(network, 1.0)}
    if network == "linear_probe":
        weights = folder / "cnn6.pt"
        if not weights.exists():
            torch.save(build_model("cnn6", 2, WIDTHS["cnn6"]).state_dict(), weights)
        model = {"model.name": "embedding_head", "model.base": "cnn6", "model.width": WIDTHS["cnn6"]}
        model["model.pretrained"] = str(weights)
    elif network in ("layers", "encoder"):
        from tests.helpers.tiny_encoders import tiny_encoder

        if not (folder / "encoder").exists():
            tiny_encoder(folder / "encoder")
        model = {"model.name": f"hf:{folder / 'encoder'}", "model.freeze": "base" if network == "layers" else "none"}
    named = {"loss.name": loss, **PARAMETERS.get(loss, {})}
    return Config.from_dotted(BASE | model | named | {key.replace("__", "."): value for key, value in changes.items()})


def make_task(config: Config, folder: Path, validation: int = VALIDATION) -> Task:
    """Return a task on made-up features that the network of a configuration reads, with votes.

    Some utterances are shorter than a crop, the others longer.

    Args:
        config: Configuration.
        folder: Folder for feature stores.
        validation: Number of validation utterances.
    """
    spec = extractor(config).front_end
    store = folder / f"{spec.name}-{validation}"
    labels = np.arange(TRAIN + validation) % len(CLASSES)
    if not store.exists():
        _write_store(store, spec, labels)

    def subset(rows: np.ndarray[Any, Any], rng: np.random.Generator) -> Subset:
        noisy = np.where(rng.random(len(rows)) < 0.3, rng.integers(0, len(CLASSES), len(rows)), labels[rows])
        soft = 0.8 * np.eye(len(CLASSES))[labels[rows]] + 0.2 / len(CLASSES)
        names, unknown = tuple(f"u{row}" for row in rows), ("unknown",) * len(rows)
        return Subset(rows, names, noisy, labels[rows], soft, unknown, unknown)

    rows, rng = np.arange(len(labels)), np.random.default_rng(1)
    manifest = {"classes": list(CLASSES), "corpus": "made up", "corpus_digest": "", "level": "made up", "seed": 0}
    return Task(CLASSES, store, subset(rows[:TRAIN], rng), subset(rows[TRAIN:], rng), manifest)


def _write_store(store: Path, spec: FrontEnd, labels: np.ndarray[Any, Any]) -> None:
    rng = np.random.default_rng(0)
    second = spec.sample_rate // spec.hop_length if spec.hop_length else 1
    lengths = np.array([1 if spec.kind == "vector" else second * (3 + row % 4) // 10 for row in range(len(labels))])
    scale = {"log_mel": 10.0, "waveform": 0.1, "vector": 1.0}[spec.kind]
    values = rng.normal(spec.silence / 2, scale, (lengths.sum(), spec.size)).astype("<f4")
    values += scale * np.repeat(labels, lengths)[:, None].astype("<f4")
    store.mkdir()
    values.tofile(store / "frames.f32")
    np.save(store / "offsets.npy", np.concatenate([[0], lengths.cumsum()]))
    np.save(store / "content.npy", np.arange(len(labels)).astype("U16"))
    np.save(store / "levels.npy", np.zeros((len(labels), 2), dtype=np.float32))
    sizes = {path.name: path.stat().st_size for path in store.iterdir()}
    meta = {"format": FORMAT, "front_end": asdict(spec), "sizes": sizes}
    (store / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


@dataclass
class Epoch:
    """What an epoch did on the fake GPU.

    Args:
        record: Its record.
        waits: Its waits.
        calls: Its operations.
    """

    record: EpochRecord
    waits: list[Wait]
    calls: list[Call]

    def __post_init__(self) -> None:
        updates = [place for place, call in enumerate(self.calls) if call.name.startswith("aten._fused_adamw_")]
        groups = len(updates) // STEPS
        self._steps = list(pairwise(updates[groups - 1 :: groups]))  # each from one last update to the next

    @property
    def steps(self) -> list[list[Call]]:
        """Return the operations of each step but the first."""
        return [self.calls[begin + 1 : end + 1] for begin, end in self._steps]

    @property
    def waits_of_steps(self) -> list[str]:
        """Return the waits of all steps but the first."""
        (begin, _), (_, end) = self._steps[0], self._steps[-1]
        return [str(wait) for wait in self.waits if begin < wait.before <= end]


def train_epochs(
    gpu: FakeGpu, config: Config, task: Task, epochs: int = 1, state: Mapping[str, Any] | None = None
) -> Epoch:
    """Train some epochs on the fake GPU, and return what the last one did.

    Args:
        gpu: The device.
        config: Configuration.
        task: Data.
        epochs: Number of epochs.
        state: State to resume from.
    """
    records = train(config, task, seed=0, device="cuda", state=None if state is None else dict(state))
    for _ in range(epochs):
        gpu.clear()
        record = next(records)
    return Epoch(record, list(gpu.waits), list(gpu.calls))
