"""Tiny speech encoders with random weights, in folders as the hub delivers them."""

from pathlib import Path
from typing import Any

import torch

from ser.torchaudio_import import torchaudio  # noqa: F401  before transformers, which imports it without care

UNITS = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
# Kernels and strides are the published ones, so that there are 50 frames a second.
CONVOLUTIONS = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}


def tiny_encoder(folder: Path, kind: str = "Wav2Vec2", *, seed: int = 0, **changes: Any) -> Path:
    """Write a tiny encoder with its preprocessor to a folder, and return it.

    Args:
        folder: Folder to create.
        kind: Beginning of the names of its classes in transformers, such as ``"Wav2Vec2"`` or ``"WavLM"``.
        seed: Seed of its weights.
        changes: Values of its configuration that differ.
    """
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**UNITS, **CONVOLUTIONS, **changes})
    torch.manual_seed(seed)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
