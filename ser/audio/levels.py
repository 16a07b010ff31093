"""Levels of utterances, and warnings about those that differ from the others by more than speech does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_APART = 40.0
"""Decibels from the median level of a corpus up to which levels are plausible. The clips of RAVDESS, from calm to
screamed at one microphone position, lie up to 24 dB from their median. 16-bit integers written as floating point are
90 dB too loud."""

FAR_BEYOND = 8.0
"""Magnitude from which samples are implausible; full scale is 1. Encoders and mixing exceed 1 by a little."""

MAX_NAMES = 5
"""Utterances named in a warning."""

_QUIETEST = 1e-20


def measure(samples: NDArray[np.float32]) -> tuple[float, float]:
    """Return the level of an utterance in dB relative to full scale (root mean square), and its peak.

    Args:
        samples: (samples,) full scale ±1; not empty.

    Example:
        >>> level, peak = measure(np.array([0.1, -0.1], np.float32))
        >>> f"{level:.2f} {peak:.2f}"
        '-20.00 0.10'
    """
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return 10 * float(np.log10(max(power, _QUIETEST))), float(max(-samples.min(), samples.max()))


def level_warnings(names: Sequence[str], levels: NDArray[np.floating]) -> list[str]:
    """Return a sentence about levels far from the median, and one about samples far beyond full scale.

    Nothing is rescaled: whether a file is in error or a speaker far away, only its owner knows.

    Args:
        names: N utterances.
        levels: (N, 2) level in dB relative to full scale and peak, as of ``measure``.

    Returns:
        Up to two sentences.

    Example:
        >>> speech, integers = (-30.0, 0.2), (60.3, 6553.6)
        >>> for line in level_warnings(["a", "b", "c"], np.array([speech, speech, integers])):
        ...     print(line)
        1 of 3 utterances lies more than 40 dB from the median level (−30 dBFS): c (+60 dBFS).
        1 of 3 utterances has samples far beyond full scale (±1): c (6,554). If these are integers written as floating point, divide them by 32768 (16 bits), or leave them out (of a corpus: --exclude).
    """  # noqa: E501
    if not len(levels):
        return []
    dbfs, peaks = levels.T
    median = float(np.median(dbfs))
    lines = []
    apart = np.abs(dbfs - median)
    if (rows := np.flatnonzero(apart > MOST_APART)).size:
        which = _list(names, rows[np.argsort(-apart[rows], kind="stable")], lambda row: f"{_signed(dbfs[row])} dBFS")
        lines.append(
            f"{_count(rows, names, 'lies', 'lie')} more than {MOST_APART:g} dB from the median level "
            f"({_signed(median)} dBFS): {which}."
        )
    if (rows := np.flatnonzero(peaks > FAR_BEYOND)).size:
        which = _list(names, rows[np.argsort(-peaks[rows], kind="stable")], lambda row: f"{peaks[row]:,.0f}")
        lines.append(
            f"{_count(rows, names, 'has', 'have')} samples far beyond full scale (±1): {which}. If these are integers "
            "written as floating point, divide them by 32768 (16 bits), or leave them out (of a corpus: --exclude)."
        )
    return lines


def _count(rows: NDArray[np.intp], names: Sequence[str], one: str, several: str) -> str:
    return f"{len(rows)} of {len(names)} utterances {one if len(rows) == 1 else several}"


def _list(names: Sequence[str], rows: NDArray[np.intp], value: Callable[[int], str]) -> str:
    named = ", ".join(f"{names[row]} ({value(row)})" for row in rows[:MAX_NAMES].tolist())
    return f"{named} and {len(rows) - MAX_NAMES} more" if len(rows) > MAX_NAMES else named


def _signed(dbfs: float) -> str:
    return f"{dbfs:+.0f}".replace("-", "−")
