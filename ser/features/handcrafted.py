"""Eight features of a whole utterance, for classifiers that take one vector.

Source: Sahu, "Multimodal Speech Emotion Recognition and Ambiguity Resolution", 2019 (arXiv 1904.06022): loudness, its
changes, pauses, the harmonic part and the autocorrelation. Frames have 2048 samples, one every 512, centred, padded
with zeros at both ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = (
    "mean_magnitude",
    "deviation",
    "rms_mean",
    "rms_deviation",
    "pause_share",
    "harmonic_mean",
    "autocorrelation_deviation",
    "autocorrelation_maximum",
)
"""Names of the features that ``handcrafted`` computes, in its order."""
SIZE = len(NAMES)

FRAME, HOP = 2048, 512
PAUSE = 0.4
"""A frame is a pause if its RMS is at most this share of the mean RMS."""
CLIPPING = 0.45
"""Level of the centre clipping, as a share of the mean magnitude."""
MEDIAN_LENGTH = 31

Signal = NDArray[np.float64]


def handcrafted(waveform: NDArray[np.floating]) -> Signal:
    """Compute the eight features of an utterance.

    Args:
        waveform: (samples,) at 16 kHz, full scale ±1, at least one sample.

    Returns:
        (8,) in the order of ``NAMES``: mean magnitude and standard deviation of the samples; mean and standard
        deviation of the frames' RMS; share of pauses (0 to 1); 1000 times the mean of the harmonic part; standard
        deviation of the autocorrelation of the centre-clipped signal, and 1000 times its maximum divided by its length.

    Raises:
        ValueError: ``waveform`` is empty or has more than one dimension.

    Source:
        Sahu 2019 (arXiv 1904.06022).

    Example:
        >>> tone = np.sin(2 * np.pi * 200 * np.arange(4000) / 16000)
        >>> dict(zip(NAMES, handcrafted(tone).round(3).tolist()))["mean_magnitude"]
        0.636
    """
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ValueError(f"waveform must be (samples,) and not empty, not {waveform.shape}")
    signal = waveform.astype(np.float64)
    rms = frame_rms(signal)
    lags = autocorrelation(centre_clip(signal))
    return np.array(
        [
            np.abs(signal).mean(),
            signal.std(),
            rms.mean(),
            rms.std(),
            (rms <= PAUSE * rms.mean()).mean(),
            1000 * harmonic_part(signal).mean(),
            lags.std(),
            1000 * lags.max() / len(lags),
        ]
    )


def frame_rms(signal: Signal) -> Signal:
    """Return the root mean square of each frame of (samples,), (samples // ``HOP`` + 1,)."""
    return np.asarray(np.sqrt((_frames(signal) ** 2).mean(axis=1)))


def centre_clip(signal: Signal) -> Signal:
    """Move samples towards zero by ``CLIPPING`` times their mean magnitude, and smaller ones to zero (Sondhi 1968).

    Args:
        signal: (samples,).

    Returns:
        (samples,).
    """
    level = CLIPPING * np.abs(signal).mean()
    return np.asarray(np.sign(signal) * np.maximum(np.abs(signal) - level, 0.0))


def autocorrelation(signal: Signal) -> Signal:
    """Compute Σ_t x(t)·x(t + lag), not normalised, by the FFT.

    Args:
        signal: (samples,).

    Returns:
        (samples,) values for the lags 0, 1, …, samples − 1.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    size = next_fast_len(2 * len(signal) - 1, real=True)
    spectrum = rfft(signal, size)
    return np.asarray(irfft(spectrum.real**2 + spectrum.imag**2, size)[: len(signal)])


def harmonic_part(signal: Signal) -> Signal:
    """Separate the harmonic part of a signal by median filtering.

    The medians of the magnitudes over 31 frames (harmonic, H) and 31 bins (percussive, P) make a soft mask,
    H² / (H² + P²), one half where both are zero.

    Args:
        signal: (samples,).

    Returns:
        (samples,).

    Source:
        Fitzgerald, "Harmonic/Percussive Separation Using Median Filtering", DAFx 2010.
    """
    from scipy.fft import irfft, rfft
    from scipy.signal.windows import hann

    window = hann(FRAME, sym=False)
    spectrum = rfft(_frames(signal) * window, axis=1)  # (T, bins)
    magnitude = np.abs(spectrum)
    harmonic, percussive = running_median(magnitude.T).T, running_median(magnitude)
    largest = np.maximum(harmonic, percussive)
    scale = np.where(largest > 0, largest, 1.0)  # otherwise the squares of small magnitudes underflow
    harmonic, percussive = (harmonic / scale) ** 2, (percussive / scale) ** 2
    mask = np.where(largest > 0, harmonic / np.where(largest > 0, harmonic + percussive, 1.0), 0.5)
    frames = irfft(spectrum * mask, FRAME, axis=1) * window
    return _overlap_add(frames, len(signal)) / _overlap_add(np.broadcast_to(window**2, frames.shape), len(signal))


def _frames(signal: Signal) -> Signal:
    """Return a view of the centred frames, (samples // ``HOP`` + 1, ``FRAME``)."""
    padded = np.pad(signal, FRAME // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]


def _overlap_add(frames: Signal, samples: int) -> Signal:
    """Return the sum (samples,) of frames at their positions, without the padding of ``_frames``."""
    total = np.zeros((len(frames) - 1) * HOP + FRAME)
    for number, frame in enumerate(frames):
        total[number * HOP : number * HOP + FRAME] += frame
    return total[FRAME // 2 : FRAME // 2 + samples]


def running_median(values: Signal) -> Signal:
    """Return medians over ``MEDIAN_LENGTH`` neighbours along the last axis, mirrored at its ends."""
    from scipy.ndimage import median_filter

    reach = MEDIAN_LENGTH // 2
    padded = np.pad(values, ((0, 0), (reach, reach)), mode="symmetric")
    # All rows in one call: SciPy's one-dimensional filter is many times as fast as its two-dimensional one.
    medians = median_filter(padded.ravel(), MEDIAN_LENGTH).reshape(padded.shape)
    return np.asarray(medians[:, reach:-reach])
