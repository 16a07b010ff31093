"""Reading an utterance's audio, with checks for damaged files."""

from ser.audio.channels import full_scale
from ser.audio.containers import CONTAINERS, Header
from ser.audio.damage import LFS_POINTER, LONGEST_SECONDS, AudioFault
from ser.audio.reading import (
    END_TOLERANCE,
    LOUDEST,
    LOWEST_RATE,
    MIN_SECONDS,
    SUFFIXES,
    probe,
    read_at_own_rate,
    read_audio,
    read_samples,
)

__all__ = [
    "CONTAINERS",
    "END_TOLERANCE",
    "LFS_POINTER",
    "LONGEST_SECONDS",
    "LOUDEST",
    "LOWEST_RATE",
    "MIN_SECONDS",
    "SUFFIXES",
    "AudioFault",
    "Header",
    "full_scale",
    "probe",
    "read_at_own_rate",
    "read_audio",
    "read_samples",
]
