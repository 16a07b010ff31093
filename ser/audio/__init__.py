"""Reading an utterance's audio, with checks for damaged files."""

from ser.audio.damage import LFS_POINTER, AudioFault
from ser.audio.reading import (
    END_TOLERANCE,
    LONGEST_SECONDS,
    LOUDEST,
    LOWEST_RATE,
    MIN_SECONDS,
    SUFFIXES,
    Properties,
    full_scale,
    probe,
    read_at_own_rate,
    read_audio,
    read_samples,
)

__all__ = [
    "END_TOLERANCE",
    "LFS_POINTER",
    "LONGEST_SECONDS",
    "LOUDEST",
    "LOWEST_RATE",
    "MIN_SECONDS",
    "SUFFIXES",
    "AudioFault",
    "Properties",
    "full_scale",
    "probe",
    "read_at_own_rate",
    "read_audio",
    "read_samples",
]
