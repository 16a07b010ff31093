"""The front end of a configuration: a named one, or the embeddings of a frozen network.

An embedding is the mean of ``Classifier.embed`` over the segments that evaluation cuts an utterance into, in float32,
evaluation mode and without augmentation.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.config import Config
from ser.features.front_ends import Compute, Extractor, FrontEnd, named_extractor
from ser.features.store import FeatureStore
from ser.models import load_pretrained
from ser.models.encoders import PREFIX, find_encoder
from ser.models.encoders.network import Encoder
from ser.models.encoders.source import size
from ser.training.batches import crop_frames, mean_over_segments
from ser.utils.errors import UserError
from ser.utils.hashing import digest, file_digest


def extractor(config: Config) -> Extractor:
    """Return the front end that a configuration's model reads, with the function that computes its frames.

    The name of embeddings is that of the network and a digest of its width, front end, segments and the content of its
    weights file, so that other weights under the same path lead to another feature store.

    Args:
        config: Configuration.

    Raises:
        UserError: ``model.pretrained`` of an embedding head cannot be read, or a package is not installed.
    """
    model = config.model
    below = named_extractor(model.features)
    if not model.reads_embeddings:
        return below
    if model.is_encoder:
        return _encoder_extractor(config)
    follows_from = [model.base, model.width, model.features, config.training.crop_seconds, _digest(model.pretrained)]
    with torch.device("meta"):
        size = model.build_network(num_classes=2).embedding_size
    name = f"{model.base}-embeddings-{digest(follows_from)}"
    return Extractor(FrontEnd(name, "vector", below.front_end.sample_rate, size), partial(_load, config, below))


def _encoder_extractor(config: Config) -> Extractor:
    """Return the extractor of the pooled layers of a frozen speech encoder."""
    own = config.model.encoder
    files = find_encoder(config.model.name, own.revision, weights=False)
    layers, hidden_size = size(files)
    slug = re.sub(r"[^\w.-]+", "-", config.model.name.removeprefix(PREFIX).rstrip("/").rpartition("/")[2])
    name = f"hf-{slug}-{digest([files.revision, own.encoder_precision])}"
    spec = FrontEnd(name, "vector", 16000, 2 * (layers + 1) * hidden_size)
    return Extractor(spec, partial(_load_encoder, config))


def _load_encoder(config: Config) -> Compute:
    """Return the function that computes the pooled layers of a waveform; it is called from several threads."""
    model = config.model.build_network(num_classes=2)
    assert isinstance(model, Encoder)
    model.load_published()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()

    @torch.inference_mode()
    def layers(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        waveform = torch.from_numpy(samples).to(device)[None, :, None]
        return model.statistics(waveform).cpu().numpy().reshape(1, -1)

    return layers


def _load(config: Config, below: Extractor) -> Compute:
    """Return the function that embeds a waveform; it is called from several threads."""
    model = config.model.build_network(num_classes=2)
    load_pretrained(model, config.model.pretrained, config.model.features)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    spec, compute = below.front_end, below.load()
    frames = crop_frames(config.training.crop_seconds, spec)

    @torch.no_grad()
    def embed(batch: Tensor, lengths: Tensor | None) -> Tensor:
        found: Tensor = model.embed(batch.to(device), lengths)
        return found

    def embedding(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        found = compute(samples)
        whole = FeatureStore(Path(), spec, found, np.array([0, len(found)]), np.array([""]))
        means = mean_over_segments(embed, whole, np.array([0]), frames, with_lengths=model.masks_padding)
        return means.astype(np.float32)

    return embedding


def _digest(path: str) -> str:
    try:
        status = Path(path).stat()
        return _digest_of_state(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(
            f"model.pretrained is {path!r}, which cannot be read: {error.strerror or error}. Set it to a file of the "
            "base network's weights."
        ) from error


@lru_cache
def _digest_of_state(path: str, size: int, modified: int) -> str:
    """Return the digest of a file's content, computed again only when size or modification time change."""
    return file_digest(Path(path))
