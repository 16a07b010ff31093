"""Decoding of an utterance's audio, which finds what soundfile accepts although it is damaged."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser.audio.damage import AudioFault, refuse_damaged
from ser.audio.embedded import content_of

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"})
"""Audio files by their suffix, in lower case."""

LOWEST_RATE = 1000
END_TOLERANCE = 0.05
"""Seconds by which a cut may end after its file; transcripts round."""

MIN_SECONDS = 0.032
"""Shortest utterance: one analysis window of either front end."""

_OF_16_BITS = np.float32(2**-15)

LOUDEST = 1e6
"""Largest plausible sample; full scale is 1."""
LONGEST_SECONDS = 1e5


class Properties(NamedTuple):
    """Properties of an audio file as its header gives them.

    Args:
        rate: Samples per second.
        channels: Number of channels.
        seconds: Duration.
        format: Container and encoding, such as ``WAV PCM_16``.
    """

    rate: int
    channels: int
    seconds: float
    format: str


def read_audio(
    path: str | Path, start: float | None = None, end: float | None = None, rate: int = 16000
) -> NDArray[np.float32]:
    """Decode an audio file, or a cut of it, to one channel of floating point.

    Args:
        path: As for ``read_samples``.
        start: Start of the cut in seconds; None is the start of the file.
        end: End of the cut in seconds; None is the end of the file.
        rate: Samples per second of the result.

    Returns:
        (samples,) full scale ±1.

    Raises:
        AudioFault: As for ``read_samples``.
    """
    return full_scale(read_samples(path, start, end, rate))


def full_scale(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Convert samples of ``read_samples`` to floating point, full scale ±1."""
    return np.multiply(samples, _OF_16_BITS, dtype=np.float32) if samples.dtype == np.int16 else samples


def probe(path: str | Path) -> Properties:
    """Return the properties of an audio file without decoding it.

    Args:
        path: As for ``read_samples``.

    Raises:
        AudioFault: If the file is missing, empty, unreadable, or shorter than its header says.
    """
    with _opened(path) as sound:
        return _properties(sound)


def read_samples(
    path: str | Path, start: float | None = None, end: float | None = None, rate: int = 16000
) -> NDArray[np.int16] | NDArray[np.float32]:
    """Decode an audio file, or a cut of it, to one channel, keeping 16-bit samples as integers.

    Args:
        path: A file of any format that libsndfile reads, or a cell that holds one (``ser.audio.embedded``).
        start: Start of the cut in seconds; None is the start of the file.
        end: End of the cut in seconds, at most ``END_TOLERANCE`` after the end of the file; None is the end of the
            file.
        rate: Samples per second of the result; soxr converts other rates at high quality.

    Returns:
        (samples,) the mean of the channels: 16-bit integers if the file has one channel of them at that rate, else
        floating point, full scale ±1.

    Raises:
        AudioFault: If the file is missing, empty, unreadable or shorter than its header says (for truncated FLAC, OGG,
            AIFF and WAV files even if the cut lies before the missing part), if the cut ends after the file or is
            shorter than ``MIN_SECONDS``, or if its samples are not finite or all equal (silence).
    """
    samples, properties = read_at_own_rate(path, start, end)
    if properties.rate == rate:
        return samples
    return np.asarray(soxr.resample(full_scale(samples), properties.rate, rate, quality="HQ"), dtype=np.float32)


def read_at_own_rate(
    path: str | Path, start: float | None = None, end: float | None = None
) -> tuple[NDArray[np.int16] | NDArray[np.float32], Properties]:
    """Decode an audio file, or a cut of it, to one channel at its own sample rate.

    Args:
        path: As for ``read_samples``.
        start: Start of the cut in seconds; None is the start of the file.
        end: End of the cut in seconds; None is the end of the file.

    Returns:
        (samples,) as of ``read_samples``, and the properties of the whole file.

    Raises:
        AudioFault: As for ``read_samples``.
    """
    with _opened(path) as sound:
        properties = _properties(sound)
        if properties.rate < LOWEST_RATE:
            raise AudioFault(f"{properties.rate} samples per second, expected at least {LOWEST_RATE}: {path}")
        samples = _decode(sound, start, end, path)
    mono = samples[:, 0] if samples.shape[1] == 1 else full_scale(samples).mean(axis=1, dtype=np.float32)
    unit = float(_OF_16_BITS) if mono.dtype == np.int16 else 1.0
    low, high = unit * float(mono.min()), unit * float(mono.max())  # NaN where any sample is
    if not (isfinite(low) and isfinite(high)):
        raise AudioFault(f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite: {path}")
    if (peak := max(-low, high)) > LOUDEST:
        raise AudioFault(f"samples of up to {peak:g} (full scale is 1): {path}")
    if low == high:
        raise AudioFault(f"silent, every sample is {low:g}: {path}")
    return np.ascontiguousarray(mono), properties


def _properties(sound: soundfile.SoundFile) -> Properties:
    rate = int(sound.samplerate)
    return Properties(rate, sound.channels, sound.frames / max(rate, 1), f"{sound.format} {sound.subtype}")


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """Open a file or a cell that is not damaged; raise ``AudioFault`` for what goes wrong inside too."""
    try:
        if (content := content_of(path)) is not None:
            _refuse(BytesIO(content), len(content), path)
        else:
            status = Path(path).stat()
            if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or stat.S_ISCHR(status.st_mode):
                raise AudioFault(f"is a pipe or a device, expected a file: {path}")
            with Path(path).open("rb") as file:
                _refuse(file, status.st_size, path)
        with soundfile.SoundFile(path if content is None else BytesIO(content)) as sound:
            yield sound
    except FileNotFoundError:
        raise AudioFault(f"file is missing: {path}") from None
    except soundfile.LibsndfileError as error:
        raise AudioFault(f"file cannot be decoded ({error.error_string.strip(' .')}): {path}") from None
    except (OSError, TypeError) as error:  # TypeError: headerless formats such as .raw
        raise AudioFault(f"file cannot be read ({getattr(error, 'strerror', None) or error}): {path}") from None


def _refuse(file: BinaryIO, size: int, path: str | Path) -> None:
    if size == 0:
        raise AudioFault(f"file is empty (0 bytes): {path}")
    refuse_damaged(file, size, path)


def _decode(sound: soundfile.SoundFile, start: float | None, end: float | None, path: str | Path) -> NDArray[Any]:
    """Decode the cut alone, (samples, channels): integers if the file's samples have 16 bits, else floating point."""
    rate, total = sound.samplerate, sound.frames
    if total == 0:
        raise AudioFault(f"file holds no samples: {path}")
    if total >= 2**62:
        raise AudioFault(f"header does not give the number of samples, encode the file again: {path}")
    first = 0 if start is None else round(start * rate)
    last = total if end is None else round(end * rate)
    if first >= total or last > total + round(END_TOLERANCE * rate):
        cut = f"{0 if start is None else start:g} to {'its end' if end is None else f'{end:g} s'}"
        raise AudioFault(f"cut from {cut} lies beyond the file's end at {total / rate:.3f} s: {path}")
    count = min(last, total) - first
    if count > LONGEST_SECONDS * rate:
        raise AudioFault(f"header claims {count / rate:.0f} s of audio: {path}")
    if count < MIN_SECONDS * rate:
        raise AudioFault(f"{max(count, 0) / rate:.3f} s long, shorter than {MIN_SECONDS} s: {path}")
    if first > 0:  # libsndfile may fail to seek even to the beginning of a truncated FLAC file
        sound.seek(first)
    # libsndfile's conversion of 16-bit samples to floating point takes longer than reading them.
    dtype = "int16" if sound.subtype == "PCM_16" else "float32"
    samples: NDArray[Any] = sound.read(count, dtype=dtype, always_2d=True)
    if len(samples) < count:
        raise AudioFault(f"truncated, {len(samples)} of {count} samples are there: {path}")
    return samples
