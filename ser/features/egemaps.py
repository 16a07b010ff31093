"""The extended Geneva minimalistic acoustic parameter set of a whole utterance, by openSMILE.

Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and Affective Computing",
IEEE Transactions on Affective Computing 7(2), 2016: 88 functionals of pitch, loudness, formants, spectral balance,
voice quality and tempo. openSMILE (Eyben et al., ACM Multimedia 2010) is an extra, ``ambivalent[egemaps]``; its
licence is for private, research and educational use.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser.utils.errors import UserError

SIZE = 88
RATE = 16000

SHORTEST = 960
"""Samples of openSMILE's window for the pitch, .06 s; from fewer it gives nothing."""

_LARGEST = 1 - 2.0**-15


def egemaps(waveform: NDArray[np.floating]) -> NDArray[np.float64]:
    """The 88 functionals of an utterance, eGeMAPS v02.

    Args:
        waveform: (samples,) at 16 kHz, full scale ±1, at least one sample. openSMILE takes 16 bits: what is beyond
            full scale is clipped. Fewer than ``SHORTEST`` samples are padded to that many with zeros at the end.

    Returns:
        (88,) in openSMILE's order.

    Raises:
        UserError: openSMILE is not installed.
        ValueError: ``waveform`` is empty or has more than one dimension.
    """
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ValueError(f"waveform must be (samples,) and not empty, not {waveform.shape}")
    samples = np.clip(waveform.astype(np.float32), -1.0, _LARGEST)  # beyond it, 16 bits would wrap around
    samples = np.pad(samples, (0, max(0, SHORTEST - len(samples))))
    return np.asarray(_smile().process_signal(samples, RATE).to_numpy()[0], dtype=np.float64)


def check_installed() -> None:
    """Tells whether openSMILE is there, without importing it.

    Raises:
        UserError: It is not.
    """
    if find_spec("opensmile") is None:
        raise UserError("front end egemaps_16k needs openSMILE. Install it: pip install 'ambivalent[egemaps]'.")


@lru_cache
def _smile() -> Any:
    """openSMILE, set up; utterances may be read in several threads."""
    check_installed()
    import opensmile

    return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
