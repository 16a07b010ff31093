"""Pretrained speech encoders of the transformers library, by name: ``hf:facebook/wav2vec2-base`` or ``hf:FOLDER``."""

from ser.models.encoders.parameters import EncoderParameters
from ser.models.encoders.source import PREFIX, EncoderFiles, find_encoder, is_encoder
from ser.torchaudio_import import torchaudio  # noqa: F401  before transformers, whose import fails where torchaudio's does

__all__ = ["PREFIX", "EncoderFiles", "EncoderParameters", "find_encoder", "is_encoder"]
