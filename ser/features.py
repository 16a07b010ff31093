"""Log-mel spectrograms, equal to those PANNs were trained on, and the waveform for models that want it.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", 2020
(arXiv 1912.10211): Hann window, centred frames with reflected edges, power spectrum, Slaney's mel scale and
normalisation, decibels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ser.errors import unknown_name
from ser.handcrafted import NAMES, handcrafted
from ser.torchaudio_import import torchaudio

SILENCE_DB = -100.0
"""What ``log_mel`` gives for digital silence, and its lowest value."""

_SMALLEST_POWER = 1e-10


@dataclass(frozen=True)
class FrontEnd:
    """How a waveform becomes frames: those of a log-mel spectrogram, its samples, or one of handcrafted features.

    Args:
        name: Its name in ``FRONT_ENDS``.
        sample_rate: Samples per second of the waveform.
        n_fft: Samples per window; 1 takes the samples as they are, 0 the whole utterance as one frame.
        hop_length: Samples from one frame to the next; 0 where there is one.
        f_min: Lower edge of the lowest mel band, in Hz.
        f_max: Upper edge of the highest mel band, in Hz.
        n_mels: Mel bands M; 1 where the frames are samples, 8 where they are handcrafted features.
    """

    name: str
    sample_rate: int
    n_fft: int
    hop_length: int
    f_min: float
    f_max: float
    n_mels: int = 64

    @property
    def is_waveform(self) -> bool:
        """Whether the frames are the samples."""
        return self.n_fft == 1

    @property
    def is_log_mel(self) -> bool:
        """Whether the frames are those of a log-mel spectrogram."""
        return self.n_fft > 1

    @property
    def silence(self) -> float:
        """What stands behind an utterance's end: the value of digital silence."""
        return SILENCE_DB if self.is_log_mel else 0.0


FRONT_ENDS = {
    "panns_16k": FrontEnd("panns_16k", 16000, n_fft=512, hop_length=160, f_min=50.0, f_max=8000.0),
    "panns_32k": FrontEnd("panns_32k", 32000, n_fft=1024, hop_length=320, f_min=50.0, f_max=14000.0),
    "waveform_16k": FrontEnd("waveform_16k", 16000, n_fft=1, hop_length=1, f_min=0.0, f_max=8000.0, n_mels=1),
    "handcrafted_16k": FrontEnd("handcrafted_16k", 16000, 0, hop_length=0, f_min=0.0, f_max=8000.0, n_mels=len(NAMES)),
}
"""The front ends of PANNs' ``Cnn14_16k`` and of its 32 kHz models, both of 100 frames per second, the waveform, and the
eight features of ``ser.handcrafted``."""


def front_end(name: str) -> FrontEnd:
    """The front end of that name.

    Raises:
        UserError: No front end is called so.
    """
    if name not in FRONT_ENDS:
        raise unknown_name("front end", name, FRONT_ENDS)
    return FRONT_ENDS[name]


_named = front_end  # the functions' argument hides it


def features(waveform: Tensor, front_end: FrontEnd | str) -> Tensor:
    """The frames of a front end.

    Args:
        waveform: (N, samples) floating point at the front end's rate, full scale ±1.
        front_end: A front end or its name.

    Returns:
        (N, T, M): `log_mel`, the samples (N, samples, 1) themselves, or `handcrafted` (N, 1, 8).

    Raises:
        UserError: No front end has that name.
        ValueError: ``waveform`` has not two dimensions.
    """
    spec = _named(front_end) if isinstance(front_end, str) else front_end
    if spec.is_waveform and waveform.dim() == 2:
        return waveform.unsqueeze(2)
    if waveform.dim() == 2 and not spec.is_log_mel:
        found = np.stack([handcrafted(samples) for samples in waveform.cpu().numpy()])
        return torch.from_numpy(found).to(waveform).unsqueeze(1)
    return log_mel(waveform, spec)


def log_mel(waveform: Tensor, front_end: FrontEnd | str) -> Tensor:
    """Log-mel spectrograms, 10·log10(max(x, 1e-10)) of the mel-weighted power spectrum.

    Args:
        waveform: (N, samples) floating point at the front end's rate, full scale ±1. Fewer than n_fft / 2 + 1
            samples, too few to reflect at the edges, are padded to that many with zeros at the end.
        front_end: A front end or its name.

    Returns:
        (N, T, M) in dB, T = samples // hop_length + 1 (of the padded length), M = 64 mel bands.

    Raises:
        UserError: No front end has that name.
        ValueError: ``waveform`` has not two dimensions, or the front end takes no spectrum.
    """
    spec = _named(front_end) if isinstance(front_end, str) else front_end
    if waveform.dim() != 2:
        raise ValueError(f"waveform must be (N, samples), not {tuple(waveform.shape)}")
    if not spec.is_log_mel:
        raise ValueError(f"front end {spec.name!r} takes no spectrum; `features` gives its frames")
    if (lacking := spec.n_fft // 2 + 1 - waveform.shape[1]) > 0:
        waveform = F.pad(waveform, (0, lacking))
    window = torch.hann_window(spec.n_fft, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.stft(
        waveform,
        spec.n_fft,
        spec.hop_length,
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()  # (N, n_fft / 2 + 1, T)
    mel = power.transpose(1, 2) @ mel_weights(spec).to(waveform)
    return 10.0 * mel.clamp(min=_SMALLEST_POWER).log10()


@lru_cache
def mel_weights(spec: FrontEnd) -> Tensor:
    """(n_fft / 2 + 1, M) triangular bands on Slaney's mel scale, each of unit area."""
    weights: Tensor = torchaudio.functional.melscale_fbanks(
        spec.n_fft // 2 + 1,
        spec.f_min,
        spec.f_max,
        spec.n_mels,
        spec.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return weights
