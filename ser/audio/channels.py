"""Mixing of channels to one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EMPTY_BELOW = 20.0
"""Decibels below the loudest channel from which a channel counts as empty. It would add less than a tenth to the
amplitude of the mean, and its place in the mean would cost up to 6 dB."""

CANCELLED_BELOW = 10.0
"""Decibels below the loudest channel from which the mean counts as cancelled. Channels without anything in common lose
3 dB (2 channels) to 9 dB (8 channels); opposite channels cancel each other."""

_OF_16_BITS = np.float32(2**-15)


def full_scale(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Convert 16-bit integers to floating point, full scale ±1; floating point stays as it is.

    Args:
        samples: Samples of any shape.
    """
    return np.multiply(samples, _OF_16_BITS, dtype=np.float32) if samples.dtype == np.int16 else samples


def mix(samples: NDArray[Any]) -> NDArray[Any]:
    """Mix the channels of a cut to one.

    Channels more than ``EMPTY_BELOW`` below the loudest are left out, and the others are averaged. If they cancel each
    other, so that their mean lies more than ``CANCELLED_BELOW`` below the loudest, the loudest is taken.

    Args:
        samples: (samples, channels), 16-bit integers or floating point.

    Returns:
        (samples,) in the given type if one channel is taken, else floating point, full scale ±1.

    Example:
        >>> speech = np.array([0.5, -0.25, 0.125], np.float32)
        >>> mix(np.stack([speech, np.zeros(3, np.float32)], axis=1)).tolist()
        [0.5, -0.25, 0.125]
    """
    if samples.shape[1] == 1:
        return samples[:, 0]
    scaled = full_scale(samples)
    with np.errstate(invalid="ignore"):  # infinite samples, which are found in the mean
        power = scaled.var(axis=0, dtype=np.float64)  # without the mean: an offset is not sound
    loudest = int(power.argmax())
    # NaN compares as not below, so that channels with samples that are not finite enter the mean.
    kept = np.flatnonzero(~(power < power[loudest] * 10 ** (-EMPTY_BELOW / 10)))
    if len(kept) == 1:
        return samples[:, loudest]
    kept_samples = scaled if len(kept) == scaled.shape[1] else scaled[:, kept]
    mean: NDArray[np.float32] = kept_samples.mean(axis=1, dtype=np.float32)
    if np.isfinite(power[loudest]) and mean.var(dtype=np.float64) < power[loudest] * 10 ** (-CANCELLED_BELOW / 10):
        return samples[:, loudest]
    return mean
