"""Trainings of every loss and network on the fake GPU, with tiny settings and made-up features."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
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
from tests.helpers.fake_cuda import FakeGpu

CLASSES = ("angry", "calm", "happy")
TRAIN, VALIDATION = 12, 6
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
    return Task(CLASSES, store, subset(rows[:TRAIN], rng), subset(rows[TRAIN:], rng), {"level": "made up"})


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


def steps_of(task: Task, config: Config, steps: int) -> Task:
    """Return the task with as many training utterances as an epoch of some steps has; they repeat."""
    rows = np.arange(config.training.batch_size * steps) % len(task.train)
    return replace(task, train=task.train.take(rows))


@dataclass
class Epoch:
    """What the last of some epochs did.

    Args:
        record: Its record.
        waits: Its waits: description → number.
        launches: Its operations on the device.
    """

    record: EpochRecord
    waits: Counter[str]
    launches: int


def train_epochs(
    gpu: FakeGpu, config: Config, task: Task, epochs: int = 1, state: Mapping[str, Any] | None = None
) -> Epoch:
    """Train some epochs on the fake GPU.

    Args:
        gpu: The device.
        config: Configuration.
        task: Data.
        epochs: Number of epochs; the log is of the last one.
        state: State to resume from.
    """
    records = train(config, task, seed=0, device="cuda", state=None if state is None else dict(state))
    for _ in range(epochs):
        gpu.clear()
        record = next(records)
    return Epoch(record, Counter(map(str, gpu.waits)), gpu.launches)


def waits_of_a_step(gpu: FakeGpu, config: Config, task: Task, epochs: int = 1) -> tuple[dict[str, float], Epoch, float]:
    """Return the waits of a step by description, the longer epoch, and the operations of a step.

    They are the difference of an epoch of three steps and one of one step, so that what an epoch does once cancels.

    Args:
        gpu: The device.
        config: Configuration.
        task: Data.
        epochs: Number of epochs of which the last one counts.
    """
    one, three = (train_epochs(gpu, config, steps_of(task, config, steps), epochs) for steps in (1, 3))
    more = {what: (three.waits[what] - one.waits[what]) / 2 for what in three.waits | one.waits}
    return {what: count for what, count in more.items() if count}, three, (three.launches - one.launches) / 2
