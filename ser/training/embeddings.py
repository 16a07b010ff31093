"""The front end of a configuration: a named one, or the embeddings of a frozen network.

The embedding of a network that reads a front end is the mean of ``Classifier.embed`` over the segments that evaluation
cuts an utterance into, in float32, evaluation mode and without augmentation.

Of a speech encoder, the mean and the standard deviation of each hidden state over all frames of the utterance are
stored. An utterance of up to 30 s, or the length that the encoder takes, is computed whole; a longer one in parts of
equal length, whose frames are pooled together.

Embeddings are computed on a CPU or on a GPU, and the name of a store ends with the kind of device if it is a GPU.
There, float32 is that of IEEE 754 and never TF32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.config import Config
from ser.features.front_ends import Compute, Extractor, FrontEnd, named_extractor
from ser.features.store import FeatureStore
from ser.models import load_pretrained
from ser.models.encoders import PREFIX, EncoderFiles, find_encoder
from ser.models.encoders.folder import SAMPLE_RATE, read_settings
from ser.models.encoders.network import Encoder
from ser.models.encoders.source import size
from ser.models.initial_weights import weights_digest
from ser.training.batches import crop_frames
from ser.training.device.arithmetic import Arithmetic, Device
from ser.training.device.features import DeviceFeatures
from ser.training.evaluation import SegmentedUtterances
from ser.utils.errors import UserError
from ser.utils.hashing import digest

ENCODER_FORMAT = 1
"""Increased whenever the stored numbers of a speech encoder change, so that older stores are not read."""

PART_SECONDS = 30

ON_GPU = "-cuda"
"""End of the names of embeddings that were computed on a GPU."""


def own_device() -> Device:
    """Return the kind of device that this machine computes embeddings on: ``cuda`` where torch sees a GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(front_end: str) -> Device:
    """Return the kind of device that embeddings were computed on.

    Args:
        front_end: Name of their front end.

    Example:
        >>> device_of("hf-wav2vec2-1c0b52f7-cuda"), device_of("hf-wav2vec2-1c0b52f7")
        ('cuda', 'cpu')
    """
    return "cuda" if front_end.endswith(ON_GPU) else "cpu"


def device_of_stores(names: Iterable[str]) -> Device:
    """Return the kind of device that the embeddings in feature stores were computed on; ``cuda`` if those of any were.

    Args:
        names: Names of the stores' folders.

    Example:
        >>> device_of_stores(["ravdess-0f3a-panns_16k-v4-77ab", "ravdess-0f3a-cnn14-embeddings-1c0b-cuda-v4-77ab"])
        'cuda'
    """
    return "cuda" if any(re.search(rf"{ON_GPU}-v\d+-", name) for name in names) else "cpu"


def extractor(config: Config, device: Device = "cpu") -> Extractor:
    """Return the front end that a configuration's model reads, with the function that computes its frames.

    The name of embeddings is that of the network and a digest of its width, front end, segments and the content of its
    weights file, so that other weights under the same path lead to another feature store. It ends with ``-cuda`` if
    they are computed on a GPU. A store that exists is opened on a machine without a GPU too.

    Args:
        config: Configuration.
        device: Kind of device that computes embeddings; other front ends are computed on the CPU.

    Raises:
        UserError: ``model.pretrained`` of an embedding head cannot be read, or a package is not installed.
    """
    model = config.model
    below = named_extractor(model.features)
    if not model.reads_embeddings:
        return below
    if model.is_encoder:
        return _encoder_extractor(config, device)
    weights = weights_digest(Path(model.pretrained))
    follows_from = [model.base, model.width, model.features, config.training.crop_seconds, weights]
    with torch.device("meta"):
        size = model.build_network(num_classes=2).embedding_size
    name = _name(f"{model.base}-embeddings-{digest(follows_from)}", device)
    spec = FrontEnd(name, "vector", below.front_end.sample_rate, size)
    return Extractor(spec, partial(_load, config, below, device))


def _name(name: str, device: Device) -> str:
    return name + ON_GPU if device == "cuda" else name


def _encoder_extractor(config: Config, device: Device) -> Extractor:
    """Return the extractor of the pooled layers of a frozen speech encoder."""
    own = config.model.encoder
    files = find_encoder(config.model.name, own.revision, weights=False)
    layers, hidden_size = size(files)
    name = _name(f"hf-{_kind(files)}-{digest([ENCODER_FORMAT, files.revision, own.encoder_precision])}", device)
    spec = FrontEnd(name, "vector", SAMPLE_RATE, 2 * (layers + 1) * hidden_size)
    return Extractor(spec, partial(_load_encoder, config, device))


@lru_cache(maxsize=64)  # a study asks for each configuration
def _kind(files: EncoderFiles) -> str:
    """Return the model type of an encoder as part of a file's name, without the slow import of transformers."""
    return re.sub(r"[^a-z0-9]+", "-", read_settings(files.folder, f"{PREFIX}{files.name}")["model_type"].lower())


def _load_encoder(config: Config, kind: Device) -> Compute:
    """Return the function that computes the pooled layers of a waveform; it is called from several threads."""
    device = _device(kind)
    model = config.model.build_network(num_classes=2)
    assert isinstance(model, Encoder)
    model.load_published()
    model.prepare_inference()
    model.to(device)
    longest = min(PART_SECONDS * SAMPLE_RATE, model.max_frames or math.inf)
    # Threads share a CPU best with an utterance each; on a GPU they would only share its memory.
    alone = nullcontext() if device.type == "cpu" else Lock()

    @torch.inference_mode()
    def layers(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [torch.from_numpy(part)[None, :, None] for part in equal_parts(samples, longest, model.min_frames)]
        lengths = torch.tensor([min(len(samples), len(parts[0][0]))])
        with alone:
            _use_float32(kind)
            found = torch.cat([model.statistics(part.to(device), lengths) for part in parts]).cpu()
        return pooled_together(found).numpy().reshape(1, -1)

    return layers


def equal_parts(samples: NDArray[np.float32], longest: float, shortest: int) -> list[NDArray[np.float32]]:
    """Cut a waveform into the fewest parts of one length; two neighbours share a sample where it does not divide.

    Args:
        samples: (T,) waveform.
        longest: Samples of the longest part.
        shortest: Samples of the shortest; a shorter waveform is followed by silence.

    Example:
        >>> [part.tolist() for part in equal_parts(np.arange(7, dtype=np.float32), 4, 2)]
        [[0.0, 1.0, 2.0, 3.0], [3.0, 4.0, 5.0, 6.0]]
    """
    if len(samples) < shortest:
        return [np.pad(samples, (0, shortest - len(samples)))]
    count = math.ceil(len(samples) / longest)
    length = math.ceil(len(samples) / count)
    starts = np.linspace(0, len(samples) - length, count).astype(int)
    return [samples[start : start + length] for start in starts]


def pooled_together(parts: Tensor) -> Tensor:
    """Return mean and standard deviation over the frames of all parts, which have equally many.

    Args:
        parts: (P, 2, L + 1, E) mean and population standard deviation over the frames of each part.

    Returns:
        (2, L + 1, E) float32.
    """
    if len(parts) == 1:
        return parts[0]
    means, deviations = parts.double().unbind(dim=1)
    variance = (deviations.square() + (means - means.mean(dim=0)).square()).mean(dim=0)
    return torch.stack([means.mean(dim=0), variance.sqrt()]).float()


def _device(kind: Device) -> torch.device:
    """Return a device of a kind; raise if there is none."""
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "the embeddings of this run were computed on a GPU, and torch sees no GPU here. Copy their feature store "
            "from the machine where the run began, or resume on a machine with a GPU."
        )
    return torch.device(kind)


def _use_float32(kind: Device) -> None:
    """Let a GPU compute float32 as IEEE 754 has it; training may have chosen TF32 for the process since."""
    if kind == "cuda":
        Arithmetic(kind, "float32").apply()


def _load(config: Config, below: Extractor, kind: Device) -> Compute:
    """Return the function that embeds a waveform; it is called from several threads."""
    device = _device(kind)
    model = config.model.build_network(num_classes=2)
    load_pretrained(model, config.model.pretrained, config.model.features)
    model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    spec, compute = below.front_end, below.load()
    frames = crop_frames(config.training.crop_seconds, spec)

    @torch.no_grad()
    def embed(batch: Tensor, lengths: Tensor | None) -> Tensor:
        found: Tensor = model.embed(batch, lengths)
        return found

    def embedding(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        found = compute(samples)
        _use_float32(kind)
        whole = FeatureStore(Path(), spec, found, np.array([0, len(found)]), np.array([""]))
        utterance = SegmentedUtterances(DeviceFeatures(whole, device), np.array([0]), frames)
        return utterance.mean(embed, with_lengths=model.masks_padding).astype(np.float32)

    return embedding
