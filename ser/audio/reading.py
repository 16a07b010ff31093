"""Decoding of an utterance's audio, which finds what soundfile accepts although it is damaged."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser.audio.channels import full_scale, mix
from ser.audio.containers import CONTAINERS, Header, container_of, decode, read_header
from ser.audio.damage import LONGEST_SECONDS, AudioFault, refuse_damaged, repaired_wav
from ser.audio.embedded import content_of

SUFFIXES = CONTAINERS | {
    *(".aif", ".aifc", ".aiff", ".au", ".bwf", ".caf", ".flac", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64"),
    *(".snd", ".sph", ".voc", ".w64", ".wav", ".wave"),
}
"""Audio files by their suffix, in lower case; those of ``CONTAINERS`` need PyAV, soundfile reads the others."""

LOWEST_RATE = 1000
END_TOLERANCE = 0.05
"""Seconds by which a cut may end after its file; transcripts round."""

MIN_SECONDS = 0.032
"""Shortest utterance: one analysis window of either front end."""

# Frames of MP3 refer to up to 511 bytes before them, half a second at the lowest bit rate: after a seek, these samples
# are wrong.
_MP3_LEAD = 1.0

LOUDEST = 1e6
"""Largest plausible sample; full scale is 1."""


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


def probe(path: str | Path) -> Header:
    """Return the properties of an audio file without decoding it.

    Args:
        path: As for ``read_samples``.

    Raises:
        AudioFault: If the file is missing, empty, unreadable, or shorter than its header says.
    """
    with _opened(path) as (source, container):
        if container is not None:
            return read_header(source, container, path)
        with soundfile.SoundFile(source) as sound:
            return _header(sound)


def read_samples(
    path: str | Path, start: float | None = None, end: float | None = None, rate: int = 16000
) -> NDArray[np.int16] | NDArray[np.float32]:
    """Decode an audio file, or a cut of it, to one channel, keeping 16-bit samples as integers.

    Args:
        path: A file of any format that libsndfile reads, or PyAV if it is installed (``ser.audio.containers``), or a
            cell that holds one (``ser.audio.embedded``).
        start: Start of the cut in seconds; None is the start of the file.
        end: End of the cut in seconds, at most ``END_TOLERANCE`` after the end of the file; None is the end of the
            file.
        rate: Samples per second of the result; soxr converts other rates at high quality.

    Returns:
        (samples,) the mean of the channels that are not empty (``ser.audio.channels``): 16-bit integers if it is one
        channel of them at that rate, else floating point, full scale ±1.

    Raises:
        AudioFault: If the file is missing, empty, unreadable or shorter than its header says (for truncated FLAC, OGG,
            AIFF and WAV files even if the cut lies before the missing part), if the cut ends after the file or is
            shorter than ``MIN_SECONDS``, or if its samples are not finite or all equal (silence).
    """
    samples, header = read_at_own_rate(path, start, end)
    if header.rate == rate:
        return samples
    return np.asarray(soxr.resample(full_scale(samples), header.rate, rate, quality="HQ"), dtype=np.float32)


def read_at_own_rate(
    path: str | Path, start: float | None = None, end: float | None = None
) -> tuple[NDArray[np.int16] | NDArray[np.float32], Header]:
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
    with _opened(path) as (source, container):
        if container is not None:
            decoded, header = decode(source, container, start, end, path)
            header = header._replace(rate=decoded.rate, channels=decoded.samples.shape[1])
            samples = decoded.samples[: _cut(start, end, decoded.rate, decoded.total, path)[1]]
        else:
            with soundfile.SoundFile(source) as sound:
                header, samples = _header(sound), _decode(sound, start, end, path)
    mono = mix(samples)
    extremes = full_scale(np.array([mono.min(), mono.max()]))  # NaN where any sample is
    low, high = map(float, extremes)
    if not (isfinite(low) and isfinite(high)):
        raise AudioFault(f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite: {path}")
    if (peak := max(-low, high)) > LOUDEST:
        raise AudioFault(f"samples of up to {peak:g} (full scale is 1): {path}")
    if low == high:
        raise AudioFault(f"silent, every sample is {low:g}: {path}")
    return np.ascontiguousarray(mono), header


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, str | None]]:
    """Yield what a decoder reads, and the container if it is one; raise ``AudioFault`` for what goes wrong inside too.

    The decoder gets the path of an ordinary file, because libsndfile reads it faster than a file that Python reads.
    """
    try:
        with _binary(path) as (file, size):
            if size == 0:
                raise AudioFault(f"file is empty (0 bytes): {path}")
            refuse_damaged(file, size, path)
            if (container := container_of(file, path)) is not None:
                yield file, container
                return
            if (repaired := repaired_wav(file, size)) is not None:
                file = BytesIO(repaired)
            file.seek(0)
            yield file if isinstance(file, BytesIO) else path, None
    except FileNotFoundError:
        raise AudioFault(f"file is missing: {path}") from None
    except soundfile.LibsndfileError as error:
        raise AudioFault(f"file cannot be decoded ({error.error_string.strip(' .')}): {path}") from None
    except (OSError, TypeError) as error:  # TypeError: headerless formats such as .raw
        raise AudioFault(f"file cannot be read ({getattr(error, 'strerror', None) or error}): {path}") from None


@contextmanager
def _binary(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open the content of a file or a cell; yield it and its size in bytes."""
    if (content := content_of(path)) is not None:
        yield BytesIO(content), len(content)
        return
    status = Path(path).stat()
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        raise AudioFault(f"is a pipe or a device, expected a file: {path}")
    with Path(path).open("rb") as file:
        yield file, status.st_size


def _header(sound: soundfile.SoundFile) -> Header:
    rate = int(sound.samplerate)
    return Header(rate, sound.channels, sound.frames / max(rate, 1), f"{sound.format} {sound.subtype}")


def _decode(sound: soundfile.SoundFile, start: float | None, end: float | None, path: str | Path) -> NDArray[Any]:
    """Decode the cut alone, (samples, channels): integers if the file's samples have 16 bits, else floating point."""
    if sound.frames >= 2**62:
        raise AudioFault(f"header does not give the number of samples, encode the file again: {path}")
    first, count = _cut(start, end, sound.samplerate, sound.frames, path)
    # libsndfile's conversion of 16-bit samples to floating point takes longer than reading them.
    dtype = "int16" if sound.subtype == "PCM_16" else "float32"
    lead = min(first, round(_MP3_LEAD * sound.samplerate)) if sound.format == "MP3" else 0
    if first - lead > 0:  # libsndfile may fail to seek even to the beginning of a truncated FLAC file
        sound.seek(first - lead)
    samples: NDArray[Any] = sound.read(lead + count, dtype=dtype, always_2d=True)[lead:]
    if len(samples) < count:
        raise AudioFault(f"truncated, {len(samples)} of {count} samples are there: {path}")
    return samples


def _cut(start: float | None, end: float | None, rate: int, total: int, path: str | Path) -> tuple[int, int]:
    """Return the first sample of a cut and the number of its samples; raise if the file does not hold it."""
    if rate < LOWEST_RATE:
        raise AudioFault(f"{rate} samples per second, expected at least {LOWEST_RATE}: {path}")
    if total == 0:
        raise AudioFault(f"file holds no samples: {path}")
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
    return first, count
