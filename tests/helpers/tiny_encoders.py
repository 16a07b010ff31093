"""Tiny speech encoders with random weights, in folders as the hub delivers them."""

from pathlib import Path
from typing import Any

import torch

from ser.torchaudio_import import torchaudio  # noqa: F401  before transformers, which imports it without care

UNITS = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
# Kernels and strides are the published ones, so that there are 50 frames a second.
CONVOLUTIONS = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
SQUEEZED = {**UNITS, "conv_dim": (16,) * 13, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "Wav2Vec2": {**UNITS, **CONVOLUTIONS},
    "Hubert": {**UNITS, **CONVOLUTIONS},
    "WavLM": {**UNITS, **CONVOLUTIONS},
    "UniSpeechSat": {**UNITS, **CONVOLUTIONS},
    "UniSpeech": {**UNITS, **CONVOLUTIONS},
    "Data2VecAudio": {**UNITS, **CONVOLUTIONS, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 3},
    "Wav2Vec2Bert": {**UNITS, "feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 5},
    "Wav2Vec2Conformer": {**UNITS, **CONVOLUTIONS, "conv_depthwise_kernel_size": 5},
    "SEW": SQUEEZED,
    "SEWD": {**SQUEEZED, "squeeze_factor": 2, "max_position_embeddings": 64, "position_buckets": 16},
    "Whisper": {
        "d_model": 24,
        "encoder_layers": 3,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
        "num_mel_bins": 16,
        "max_source_positions": 50,
        "vocab_size": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    "AST": {**UNITS, "num_mel_bins": 32, "max_length": 96},
}
"""Beginning of the names of an architecture's classes in transformers → what makes it tiny."""


def tiny_encoder(folder: Path, kind: str = "Wav2Vec2", *, seed: int = 0, **changes: Any) -> Path:
    """Write a tiny encoder with its preprocessor to a folder, and return it.

    Whisper takes 1 s, AST .97 s.

    Args:
        folder: Folder to create.
        kind: A key of ``CONFIGURATIONS``, such as ``"Wav2Vec2"`` or ``"WavLM"``.
        seed: Seed of its weights.
        changes: Values of its configuration that differ.
    """
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**CONFIGURATIONS[kind], **changes})
    torch.manual_seed(seed)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    _preprocessor(transformers, kind, config).save_pretrained(folder)
    return folder


def _preprocessor(transformers: Any, kind: str, config: Any) -> Any:
    if kind == "Wav2Vec2Bert":
        return transformers.SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80)
    if kind == "Whisper":
        return transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=1)
    if kind == "AST":
        return transformers.ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    return transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
