"""Front ends: log-mel spectrograms equal to those of PANNs, the waveform itself, or one vector per utterance.

Source of the spectrograms: Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
Recognition", 2020 (arXiv 1912.10211): Hann window, centred frames with reflected edges, power spectrum, Slaney's mel
scale and normalisation, decibels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ser.features import egemaps, handcrafted
from ser.torchaudio_import import torchaudio
from ser.utils.errors import UserError
from ser.utils.hashing import digest
from ser.utils.registry import resolve_instance

SILENCE_DB = -100.0
"""Value of ``log_mel`` for digital silence, and its lowest value."""

_SMALLEST_POWER = 1e-10
_BANDS_AT_A_TIME = 16

Compute = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Function from (samples,) at a front end's rate to its (T, M) frames."""


@dataclass(frozen=True)
class FrontEnd:
    """Description of the frames that a model reads.

    Args:
        name: Key of ``FRONT_ENDS``. The names of embeddings and of imported front ends end with a digest of what
            their numbers depend on.
        kind: ``log_mel``: a spectrogram; ``waveform``: the samples; ``vector``: one frame for the whole utterance.
        sample_rate: Samples per second of the waveform.
        size: Values M of a frame: mel bands, 1 for a sample, the length of a vector.
        hop_length: Samples from one frame to the next; 0 where there is one frame.
        n_fft: Samples per window of a spectrogram, else 0.
        f_min: Lower edge of its lowest mel band in Hz, else 0.
        f_max: Upper edge of its highest mel band in Hz, else 0.

    Example:
        >>> low = FrontEnd("low_16k", "log_mel", 16000, 32, hop_length=160, n_fft=512, f_min=50.0, f_max=4000.0)
        >>> log_mel(torch.zeros(2, 16000), low).shape
        torch.Size([2, 101, 32])
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
        """Return the value of digital silence, which pads utterances that are shorter than a crop."""
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
"""Built-in front ends: those of PANNs' ``Cnn14_16k`` and of its 32 kHz models, both with 100 frames per second, the
waveform, the eight features of ``ser.features.handcrafted`` and the 88 of ``ser.features.egemaps``."""


@dataclass(frozen=True)
class Extractor:
    """A front end together with the function that computes its frames.

    Args:
        front_end: Description of the frames. Its name must change whenever the numbers change, because stored
            features are found by it.
        load: Returns the function that computes the frames. It is called before the first waveform is read, so that
            opening stored features costs nothing; may raise a ``UserError``.
    """

    front_end: FrontEnd
    load: Callable[[], Compute]


def front_end(name: str) -> FrontEnd:
    """Return a front end by name.

    Args:
        name: Key of ``FRONT_ENDS``, or the import path of a ``FrontEnd`` or an ``Extractor``, such as
            ``my_package.my_module.MY_FRONT_END``.

    Raises:
        UserError: The name is unknown, or the import path leads to nothing that fits.

    Example:
        >>> front_end("panns_16k").sample_rate
        16000
    """
    found = _resolve(name)
    return found.front_end if isinstance(found, Extractor) else found


def named_extractor(name: str) -> Extractor:
    """Return a front end, with the function that computes its frames, by name.

    Args:
        name: As for ``front_end``. The name of an imported ``FrontEnd`` gets a digest of its values appended, so that
            changed values lead to another feature store.

    Raises:
        UserError: The name is unknown, the import path leads to nothing that fits, or a package is not installed.
    """
    found = _resolve(name)
    if isinstance(found, Extractor):
        return found
    if found.name == "egemaps_16k":
        egemaps.check_installed()
    return Extractor(found, lambda: partial(_frames, found))


def _resolve(name: str) -> FrontEnd | Extractor:
    found: FrontEnd | Extractor = resolve_instance("front end", name, FRONT_ENDS, FrontEnd, Extractor)
    if name in FRONT_ENDS:
        return found
    spec = found if isinstance(found, FrontEnd) else found.front_end
    if spec.name in FRONT_ENDS or not re.fullmatch(r"[\w.-]+", spec.name):
        raise UserError(
            f"front end {name!r} calls itself {spec.name!r}. Give it a name of letters, digits, dots and hyphens that "
            "is not the name of a built-in front end; its feature store is found by that name."
        )
    if isinstance(found, Extractor):
        return found
    if found.kind == "vector":
        raise UserError(
            f"front end {name!r} is a FrontEnd of kind 'vector', which does not say how the vector is computed. Make "
            "it a ser.features.Extractor."
        )
    return replace(found, name=f"{found.name}-{digest(asdict(found))}")


@torch.inference_mode()
def _frames(spec: FrontEnd, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = features(torch.from_numpy(samples)[None], spec)[0].numpy()
    return found


def _checked(waveform: Tensor, spec: FrontEnd | str) -> FrontEnd:
    if waveform.dim() != 2:
        raise ValueError(f"waveform must be (N, samples), not {tuple(waveform.shape)}")
    return front_end(spec) if isinstance(spec, str) else spec


def features(waveform: Tensor, front_end: FrontEnd | str) -> Tensor:
    """Compute the frames of a front end that is described by its values alone.

    Args:
        waveform: (N, samples) floating point at the front end's rate, full scale ±1.
        front_end: A front end or its name; not one that comes with a function of its own (``Extractor``).

    Returns:
        (N, T, M) frames: the spectrogram of ``log_mel``; the samples themselves, (N, samples, 1); or the vectors
        (N, 1, 8) of ``ser.features.handcrafted`` or (N, 1, 88) of ``ser.features.egemaps``.

    Raises:
        UserError: The name is unknown, or a package is not installed.
        ValueError: ``waveform`` does not have two dimensions.
    """
    spec = _checked(waveform, front_end)
    if spec.kind == "waveform":
        return waveform.unsqueeze(2)
    if spec.kind == "log_mel":
        return log_mel(waveform, spec)
    vector = {"handcrafted_16k": handcrafted.handcrafted, "egemaps_16k": egemaps.egemaps}[spec.name]
    found = np.stack([vector(samples) for samples in waveform.cpu().numpy()])
    return torch.from_numpy(found).to(waveform).unsqueeze(1)


def log_mel(waveform: Tensor, front_end: FrontEnd | str) -> Tensor:
    """Compute log-mel spectrograms: 10·log10(max(x, 1e-10)) of the mel-weighted power spectrum x.

    Args:
        waveform: (N, samples) floating point at the front end's rate, full scale ±1. Fewer than n_fft / 2 + 1
            samples, too few to reflect at the edges, are padded to that many with zeros at the end.
        front_end: A front end or its name.

    Returns:
        (N, T, M) in dB with T = samples // hop_length + 1 (of the padded length) and M = 64 mel bands.

    Raises:
        UserError: The name is unknown.
        ValueError: ``waveform`` does not have two dimensions, or the front end is not a spectrogram.

    Example:
        One second of a 440 Hz tone; bands are numbered from 0.

        >>> time = torch.arange(16000) / 16000
        >>> spectrogram = log_mel(torch.sin(2 * torch.pi * 440 * time)[None], "panns_16k")
        >>> spectrogram.shape
        torch.Size([1, 101, 64])
        >>> int(spectrogram.mean(dim=1).argmax())
        8
    """
    spec = _checked(waveform, front_end)
    if spec.kind != "log_mel":
        raise ValueError(f"front end {spec.name!r} is not a spectrogram; use ser.features.features for its frames")
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
@torch.inference_mode(False)  # a cached inference tensor would raise later where gradients are needed
def _constants(
    spec: FrontEnd, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, tuple[tuple[slice, Tensor], ...]]:
    """Return the window, and `mel_weights` in groups of neighbouring bands, each with the bins that it weights."""
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
    """Compute triangular bands on Slaney's mel scale, each of unit area.

    Args:
        spec: Front end of kind ``log_mel``.

    Returns:
        (n_fft / 2 + 1, M) weights of the power spectrum.
    """
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
