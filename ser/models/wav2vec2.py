"""wav2vec 2.0 Base and WavLM Base on the waveform, as torchaudio defines them, with a class head.

Sources: Baevski et al., wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations, NeurIPS
2020 (arXiv 2006.11477); Chen et al., WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech
Processing, IEEE JSTSP 16, 2022 (arXiv 2110.13900).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser.models.classifier import Classifier, behind, check_features, check_width, initialise, scaled
from ser.torchaudio_import import torchaudio

HEADS = 12
LAYERS = 12
POSITION_GROUPS = 16
# The heads and the groups of the positional convolution divide the units.
UNIT_STEP = 48
# Channels, kernel and stride: one frame every 320 samples, the first one sees 400.
CONVOLUTIONS = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)
MASKED = -10_000.0
"""What torchaudio adds to the attention to a masked frame."""


class Wav2Vec2Base(Classifier):
    """The waveform to logits: convolutions, transformer, mean over time, ``head``.

    Parameters bear torchaudio's names, and the weights of its ``WAV2VEC2_BASE`` fit at width 1. Without weights from
    pre-training the model is of no use (a run is refused without ``model.pretrained``). ``freeze("convolutions")``
    is how such models are usually fine-tuned.

    Without ``lengths`` this is torchaudio's model to the bit. With them, the group norm that follows the first
    convolution takes its mean and variance over an utterance's own samples, the transformer's attention and the mean
    leave out what lies behind; torchaudio's own masking leaves that group norm to see the padding.

    Args:
        num_classes: C, the outputs of ``head``.
        width: Factor on the convolutions' 512 channels and the transformer's 768 units, in (0, 2]; units are rounded
            to multiples of 48. Other than 1 serves for tests.
        dropout: Factor on the published rates (.1, and .05 for leaving out a layer), in [0, 1].

    Raises:
        UserError: ``width`` or ``dropout`` is out of range.
    """

    front_end = "waveform_16k"
    front_ends = ("waveform_16k",)
    min_frames = 400
    masks_padding = True
    needs_weights = True
    convolutions = ("feature_extractor",)
    feature_extractor: Any
    encoder: Any

    def __init__(self, num_classes: int, width: float = 1.0, dropout: float = 1.0) -> None:
        super().__init__(dropout)
        units = max(1, round(768 * check_width(width) / UNIT_STEP)) * UNIT_STEP
        self.embedding_size = units
        sizes = {
            "extractor_mode": "group_norm",
            "extractor_conv_layer_config": [(*scaled((count,), width), *size) for count, *size in CONVOLUTIONS],
            "extractor_conv_bias": False,
            "encoder_embed_dim": units,
            "encoder_projection_dropout": 0.1 * dropout,
            "encoder_pos_conv_kernel": 128,
            "encoder_pos_conv_groups": POSITION_GROUPS,
            "encoder_num_layers": LAYERS,
            "encoder_num_heads": HEADS,
            "encoder_attention_dropout": 0.1 * dropout,
            "encoder_ff_interm_features": 4 * units,
            "encoder_ff_interm_dropout": 0.0,
            "encoder_dropout": 0.1 * dropout,
            "encoder_layer_norm_first": False,
            "encoder_layer_drop": 0.05 * dropout,
            "aux_num_out": None,
        }
        model = self._torchaudio_model(sizes)
        self.feature_extractor = model.feature_extractor
        self.encoder = model.encoder
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(units, num_classes)
        self.head.apply(initialise)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The mean over time (N, 768 · width) of waveforms (N, samples, 1) at 16 kHz, full scale ±1."""
        check_features(features, 1, self.min_frames)
        waveform = features.squeeze(2)
        if lengths is None:
            x, _ = self.feature_extractor(waveform, None)
            output: Tensor = self.encoder(x, None)
            return output.mean(dim=1)
        valid = lengths.to(features.device).clamp(self.min_frames, features.shape[1])
        x, valid = self._convolve(waveform, valid)
        beyond = behind(valid, x.shape[1])
        output = self._transform(self.encoder.feature_projection(x), beyond)
        return output.masked_fill(beyond[:, :, None], 0.0).sum(dim=1) / valid[:, None]

    def _torchaudio_model(self, sizes: dict[str, Any]) -> Any:
        return torchaudio.models.wav2vec2_model(**sizes)

    def _convolve(self, waveform: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(N, samples) and (N,) valid samples → (N, frames, channels) and (N,) valid frames."""
        x = waveform.unsqueeze(1)
        for layer in self.feature_extractor.conv_layers:
            x = layer.conv(x)
            valid = (valid - layer.kernel_size) // layer.stride + 1
            if layer.layer_norm is not None:
                x = _group_norm(x, valid, layer.layer_norm)
            x = F.gelu(x)
        return x.transpose(1, 2), valid

    def _transform(self, x: Tensor, beyond: Tensor) -> Tensor:
        """(N, frames, units) through the transformer, with no attention to the frames in ``beyond``."""
        transformer = self.encoder.transformer
        x = x.masked_fill(beyond[:, :, None], 0.0)
        x = transformer.dropout(transformer.layer_norm(x + transformer.pos_conv_embed(x)))
        mask, bias = self._masks(beyond)
        for layer in transformer.layers:
            if not (transformer.training and torch.rand(1).item() <= transformer.layer_drop):
                x, bias = layer(x, position_bias=bias, **mask)
        return x

    def _masks(self, beyond: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """How a layer is told the frames to leave out, and the first layer's position bias."""
        count, frames = beyond.shape
        mask = MASKED * beyond[:, None, None, :].float()
        return {"attention_mask": mask.expand(count, 1, frames, frames)}, None


class WavLmBase(Wav2Vec2Base):
    """WavLM Base: `Wav2Vec2Base` with a gated relative position bias; fits torchaudio's ``WAVLM_BASE``.

    torchaudio's own model takes no lengths.
    """

    def _torchaudio_model(self, sizes: dict[str, Any]) -> Any:
        return torchaudio.models.wavlm_model(encoder_num_buckets=320, encoder_max_distance=800, **sizes)

    def _masks(self, beyond: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        # The mask is added to the position bias, which the first layer makes and layer drop may leave out.
        count, frames = beyond.shape
        bias = self.encoder.transformer.layers[0].attention.compute_bias(frames, frames)
        return {"key_padding_mask": MASKED * beyond.float()}, bias.expand(count, -1, -1, -1)


def _group_norm(x: Tensor, valid: Tensor, norm: nn.GroupNorm) -> Tensor:
    """(N, channels, T) with every channel normalised over its valid frames (one group a channel)."""
    beyond = behind(valid, x.shape[2])[:, None, :]
    count = valid[:, None, None]
    # Squares and sums of thousands of values, which bfloat16 does not hold.
    x = x.float().masked_fill(beyond, 0.0)
    x = (x - x.sum(dim=2, keepdim=True) / count).masked_fill(beyond, 0.0)
    variance = x.square().sum(dim=2, keepdim=True) / count
    return x * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]
