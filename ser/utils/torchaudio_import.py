"""Imports torchaudio with its native part or, where that cannot load, without it.

torchaudio 2.11 is built for CUDA 13.0. Beside a CPU-only torch its native library fails to load
(``OSError``), beside a torch of another CUDA version it refuses (``RuntimeError``), and either ends ``import
torchaudio``. Its transforms, functional and models are pure Python on torch and need no native part; only
``rnnt_loss``, ``forced_align`` and the fast ``lfilter`` do.
"""

from __future__ import annotations

import importlib
import logging
import sys

__all__ = ["HAS_NATIVE_PART", "torchaudio"]

_log = logging.getLogger(__name__)

HAS_NATIVE_PART = True
"""Whether torchaudio came with its native library."""

try:
    import torchaudio
except (OSError, RuntimeError) as error:
    # torchaudio's own answer for a build without a native library: its loader finds none and returns False.
    # The failed import leaves the loader's module behind, and the second one takes it from there.
    sys.modules["torchaudio._extension.utils"]._load_lib = lambda lib: False  # type: ignore[attr-defined]
    torchaudio = importlib.import_module("torchaudio")
    HAS_NATIVE_PART = False
    _log.debug("torchaudio %s runs without its native part: %s", torchaudio.__version__, error)
