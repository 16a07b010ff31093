"""The extended Geneva minimalistic acoustic parameter set (eGeMAPS) of a whole utterance, computed by openSMILE.

Source: Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and Affective
Computing", IEEE Transactions on Affective Computing 7(2), 2016: 88 functionals of pitch, loudness, formants, spectral
balance, voice quality and tempo. openSMILE (Eyben et al., ACM Multimedia 2010) is an optional dependency; its licence
is for private, research and educational use.
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
"""Samples of openSMILE's pitch window, 0.06 s; it returns nothing for fewer."""

_LARGEST = 1 - 2.0**-15


def egemaps(waveform: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the 88 functionals of an utterance, eGeMAPS v02.

    Args:
        waveform: (samples,) at 16 kHz, full scale ±1, at least one sample. openSMILE takes 16 bits, so values beyond
            full scale are clipped. Fewer than ``SHORTEST`` samples are padded to that many with zeros at the end.

    Returns:
        (88,) functionals in openSMILE's order.

    Raises:
        UserError: openSMILE is not installed.
        ValueError: ``waveform`` is empty or has more than one dimension.
    """
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ValueError(f"waveform must be (samples,) and not empty, not {waveform.shape}")
    samples = np.clip(waveform.astype(np.float32), -1.0, _LARGEST)  # larger values would wrap around in 16 bits
    samples = np.pad(samples, (0, max(0, SHORTEST - len(samples))))
    return np.asarray(_smile().process_signal(samples, RATE).to_numpy()[0], dtype=np.float64)


def check_installed() -> None:
    """Check that openSMILE is installed, without importing it.

    Raises:
        UserError: It is not installed.
    """
    if find_spec("opensmile") is None:
        raise UserError(
            "model.front_end is egemaps_16k, which needs openSMILE, and openSMILE is not installed. Install it with "
            "pip install opensmile, or choose handcrafted_16k."
        )


@lru_cache
def _smile() -> Any:
    """Return openSMILE, set up once; it is called from several threads."""
    check_installed()
    import opensmile

    return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
