"""What a model reads: log-mel spectrograms equal to those PANNs were trained on, waveforms, or a vector an utterance.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", 2020
(arXiv 1912.10211): Hann window, centred frames with reflected edges, power spectrum, Slaney's mel scale and
normalisation, decibels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ser.features import egemaps, handcrafted
from ser.utils.errors import unknown_name
from ser.utils.torchaudio_import import torchaudio

SILENCE_DB = -100.0
"""What ``log_mel`` gives for digital silence, and its lowest value."""

_SMALLEST_POWER = 1e-10
_BANDS_AT_A_TIME = 16

Compute = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(samples,) at a front end's rate → its (T, M) frames."""


@dataclass(frozen=True)
class FrontEnd:
    """What a waveform's frames are.

    Args:
        name: Its name in ``FRONT_ENDS``; that of embeddings follows from their network, its weights and the segments.
        kind: ``log_mel``, a spectrogram; ``waveform``, the samples; ``vector``, one frame for the whole utterance.
        sample_rate: Samples per second of the waveform.
        size: Values M of a frame: mel bands, 1 for a sample, the vector's length.
        hop_length: Samples from one frame to the next; 0 where there is one frame.
        n_fft: Samples per window of a spectrogram, else 0.
        f_min: Lower edge of its lowest mel band, in Hz, else 0.
        f_max: Upper edge of its highest mel band, in Hz, else 0.
    """

    name: str
    kind: Literal["log_mel", "waveform", "vector"]
    sample_rate: int
    size: int
    hop_length: int = 0
    n_fft: int = 0
    f_min: float = 0.0
    f_max: float = 0.0

    @property
    def silence(self) -> float:
        """What stands behind an utterance's end: the value of digital silence."""
        return SILENCE_DB if self.kind == "log_mel" else 0.0


FRONT_ENDS = {
    spec.name: spec
    for spec in (
        FrontEnd("panns_16k", "log_mel", 16000, 64, hop_length=160, n_fft=512, f_min=50.0, f_max=8000.0),
        FrontEnd("panns_32k", "log_mel", 32000, 64, hop_length=320, n_fft=1024, f_min=50.0, f_max=14000.0),
        FrontEnd("waveform_16k", "waveform", 16000, 1, hop_length=1),
        FrontEnd("handcrafted_16k", "vector", 16000, handcrafted.SIZE),
        FrontEnd("egemaps_16k", "vector", 16000, egemaps.SIZE),
    )
}
"""The front ends of PANNs' ``Cnn14_16k`` and of its 32 kHz models, both of 100 frames per second, the waveform, the
eight features of ``ser.features.handcrafted`` and the 88 of ``ser.features.egemaps``."""


@dataclass(frozen=True)
class Extractor:
    """A front end, and how its frames are computed.

    Args:
        front_end: What the frames are.
        load: Gives the function that computes them. It is called when a first waveform is to be read, so that opening
            what was computed before costs nothing; may raise a ``UserError``.
    """

    front_end: FrontEnd
    load: Callable[[], Compute]


def front_end(name: str) -> FrontEnd:
    """The front end of that name.

    Raises:
        UserError: No front end is called so.
    """
    if name not in FRONT_ENDS:
        raise unknown_name("front end", name, FRONT_ENDS)
    return FRONT_ENDS[name]


_named = front_end  # the functions' argument hides it


def named_extractor(name: str) -> Extractor:
    """The extractor of a front end in ``FRONT_ENDS``.

    Raises:
        UserError: No front end is called so, or the package that it needs is not installed.
    """
    spec = front_end(name)
    if name == "egemaps_16k":
        egemaps.check_installed()
    return Extractor(spec, lambda: partial(_frames, spec))


@torch.inference_mode()
def _frames(spec: FrontEnd, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = features(torch.from_numpy(samples)[None], spec)[0].numpy()
    return found


def features(waveform: Tensor, front_end: FrontEnd | str) -> Tensor:
    """The frames of a front end in ``FRONT_ENDS``.

    Args:
        waveform: (N, samples) floating point at the front end's rate, full scale ±1.
        front_end: A front end or its name.

    Returns:
        (N, T, M): `log_mel`, the samples (N, samples, 1) themselves, or the vectors (N, 1, 8) of ``ser.features.handcrafted``
        or (N, 1, 88) of ``ser.features.egemaps``.

    Raises:
        UserError: No front end has that name, or the package that it needs is not installed.
        ValueError: ``waveform`` has not two dimensions.
    """
    spec = _named(front_end) if isinstance(front_end, str) else front_end
    if waveform.dim() != 2:
        raise ValueError(f"waveform must be (N, samples), not {tuple(waveform.shape)}")
    if spec.kind == "waveform":
        return waveform.unsqueeze(2)
    if spec.kind == "log_mel":
        return log_mel(waveform, spec)
    vector = {"handcrafted_16k": handcrafted.handcrafted, "egemaps_16k": egemaps.egemaps}[spec.name]
    found = np.stack([vector(samples) for samples in waveform.cpu().numpy()])
    return torch.from_numpy(found).to(waveform).unsqueeze(1)


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
    if spec.kind != "log_mel":
        raise ValueError(f"front end {spec.name!r} takes no spectrum; `features` gives its frames")
    if (lacking := spec.n_fft // 2 + 1 - waveform.shape[1]) > 0:
        waveform = F.pad(waveform, (0, lacking))
    window, groups = _constants(spec, waveform.dtype, waveform.device)
    half = spec.n_fft // 2
    # Slices instead of F.pad's "reflect" and torch.stft, which take twice as long for the same numbers.
    edges = waveform[:, 1 : half + 1].flip(1), waveform[:, -half - 1 : -1].flip(1)
    framed = torch.cat([edges[0], waveform, edges[1]], dim=1).unfold(1, spec.n_fft, spec.hop_length)
    squares = torch.view_as_real(torch.fft.rfft(framed * window)).square_()
    power = squares[..., 0] + squares[..., 1]  # (N, T, n_fft / 2 + 1)
    mel = torch.cat([power[..., bins] @ weights for bins, weights in groups], dim=2)
    return mel.clamp_(min=_SMALLEST_POWER).log10_().mul_(10.0)


@lru_cache
@torch.inference_mode(False)  # else what is kept would fail later where gradients are wanted
def _constants(
    spec: FrontEnd, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, tuple[tuple[slice, Tensor], ...]]:
    """The window, and `mel_weights` in groups of neighbouring bands, each with the only bins that it weights."""
    weights = mel_weights(spec)
    groups = []
    for first in range(0, spec.size, _BANDS_AT_A_TIME):
        group = weights[:, first : first + _BANDS_AT_A_TIME]
        used = group.any(dim=1).nonzero()
        bins = slice(int(used[0]), int(used[-1]) + 1)
        groups.append((bins, group[bins].to(device, dtype).contiguous()))
    return torch.hann_window(spec.n_fft, dtype=dtype, device=device), tuple(groups)


@lru_cache
@torch.inference_mode(False)
def mel_weights(spec: FrontEnd) -> Tensor:
    """(n_fft / 2 + 1, M) triangular bands on Slaney's mel scale, each of unit area."""
    weights: Tensor = torchaudio.functional.melscale_fbanks(
        spec.n_fft // 2 + 1,
        spec.f_min,
        spec.f_max,
        spec.size,
        spec.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return weights
