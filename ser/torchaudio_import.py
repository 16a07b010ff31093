"""Import of torchaudio, without its native library where that cannot be loaded.

torchaudio 2.11 is built for CUDA 13.0. With a CPU-only torch its native library fails to load (``OSError``), with a
torch of another CUDA version it refuses to (``RuntimeError``), and ``import torchaudio`` fails. Its transforms,
functional and models are pure Python on torch and need no native library; only ``rnnt_loss``, ``forced_align`` and the
fast ``lfilter`` do.
"""

from __future__ import annotations

import importlib
import logging
import sys

__all__ = ["HAS_NATIVE_PART", "torchaudio"]

_log = logging.getLogger(__name__)

HAS_NATIVE_PART = True
"""True if torchaudio has loaded its native library."""

try:
    import torchaudio
except (OSError, RuntimeError) as error:
    # In a build without a native library, torchaudio's loader returns False and the import succeeds. The failed import
    # leaves the loader's module in sys.modules, where the second import finds it. There is no public way to ask for
    # this; tests/ser/features/test_features.py runs both imports with the installed version.
    sys.modules["torchaudio._extension.utils"]._load_lib = lambda lib: False  # type: ignore[attr-defined]
    torchaudio = importlib.import_module("torchaudio")
    HAS_NATIVE_PART = False
    _log.debug("torchaudio %s runs without its native part: %s", torchaudio.__version__, error)
