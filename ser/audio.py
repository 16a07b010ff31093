"""Reading an utterance's audio, with checks for damaged files.

Decoding is soundfile's. What soundfile accepts without an error although it is damaged is found here: files that are
shorter than their header says, stubs, silence, and samples that are not finite.
"""

from __future__ import annotations

import re
import stat
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"})
"""Audio files by their suffix, in lower case."""

LOWEST_RATE = 1000
END_TOLERANCE = 0.05
"""Seconds by which a cut may end after its file; transcripts round."""

MIN_SECONDS = 0.032
"""Shortest utterance: one analysis window of either front end."""

# Writers that cannot seek back leave the declared size at 0 or at about 2 or 4 GiB.
_STREAMED_FROM = 0x7FFF0000

_OGG_HEADER = 27
_LONGEST_OGG_PAGE = _OGG_HEADER + 255 + 255 * 255
_OGG_END_OF_STREAM = 4

_OF_16_BITS = np.float32(2**-15)

LOUDEST = 1e6
"""Largest plausible sample; full scale is 1."""
LONGEST_SECONDS = 1e5
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


class AudioFault(Exception):
    """Fault of an utterance's audio; the text names the fault and the file."""


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


def read_samples(
    path: str | Path, start: float | None = None, end: float | None = None, rate: int = 16000
) -> NDArray[np.int16] | NDArray[np.float32]:
    """Decode an audio file, or a cut of it, to one channel, keeping 16-bit samples as integers.

    Args:
        path: A file of any format that libsndfile reads.
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
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or stat.S_ISCHR(status.st_mode):
            raise AudioFault(f"is a pipe or a device, expected a file: {path}")
        if status.st_size == 0:
            raise AudioFault(f"file is empty (0 bytes): {path}")
        _refuse_damaged(path, status.st_size)
        with soundfile.SoundFile(path) as sound:
            source_rate: int = sound.samplerate
            if source_rate < LOWEST_RATE:
                raise AudioFault(f"{source_rate} samples per second, expected at least {LOWEST_RATE}: {path}")
            samples = _decode(sound, start, end, path)
    except FileNotFoundError:
        raise AudioFault(f"file is missing: {path}") from None
    except soundfile.LibsndfileError as error:
        raise AudioFault(f"file cannot be decoded ({error.error_string.strip(' .')}): {path}") from None
    except (OSError, TypeError) as error:  # TypeError: headerless formats such as .raw
        raise AudioFault(f"file cannot be read ({getattr(error, 'strerror', None) or error}): {path}") from None
    mono = samples[:, 0] if samples.shape[1] == 1 else full_scale(samples).mean(axis=1, dtype=np.float32)
    unit = float(_OF_16_BITS) if mono.dtype == np.int16 else 1.0
    low, high = unit * float(mono.min()), unit * float(mono.max())  # NaN where any sample is
    if not (isfinite(low) and isfinite(high)):
        raise AudioFault(f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite: {path}")
    if (peak := max(-low, high)) > LOUDEST:
        raise AudioFault(f"samples of up to {peak:g} (full scale is 1): {path}")
    if low == high:
        raise AudioFault(f"silent, every sample is {low:g}: {path}")
    if source_rate == rate:
        return np.ascontiguousarray(mono)
    return np.asarray(soxr.resample(full_scale(mono), source_rate, rate, quality="HQ"), dtype=np.float32)


def _decode(sound: soundfile.SoundFile, start: float | None, end: float | None, path: Path) -> NDArray[Any]:
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


def _refuse_damaged(path: Path, size: int) -> None:
    """Raise for stubs and truncated files, which libsndfile reads as far as they go without an error."""
    with path.open("rb") as file:
        header = file.read(len(LFS_POINTER))
        kind, form = header[:4], header[8:12]
        if header == LFS_POINTER:
            raise AudioFault(f"Git LFS stub instead of audio, run git lfs pull in its repository: {path}")
        if kind == b"OggS":
            _refuse_truncated_ogg(file, size, path)
        elif kind in (b"RIFF", b"RF64") and form == b"WAVE":
            _refuse_truncated_wav(file, size, path)
        elif kind == b"FORM" and form in (b"AIFF", b"AIFC"):
            _refuse_less_than(int.from_bytes(header[4:8], "big") + 8, size, path)
        elif kind == b"riff":  # Wave64
            _refuse_less_than(int.from_bytes(header[16:24], "little"), size, path)


def _refuse_less_than(declared: int, size: int, path: Path, what: str = "bytes") -> None:
    if size < declared < _STREAMED_FROM:
        raise AudioFault(f"truncated, {size} of {declared} {what} are there: {path}")


def _refuse_truncated_wav(file: BinaryIO, size: int, path: Path) -> None:
    """Compare the declared size of the samples to the bytes after their header.

    The size of the whole in the first header does not serve: writers that append chunks leave it as it was.
    """
    long_size = 0
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        name, declared = chunk[:4], int.from_bytes(chunk[4:], "little")
        start = file.tell()
        if name == b"data":
            _refuse_less_than(long_size or declared, size - start, path, "bytes of samples")
            return
        if name == b"ds64":  # 64-bit sizes (EBU Tech 3306)
            long_size = int.from_bytes(file.read(16)[8:], "little")
        file.seek(start + declared + declared % 2)  # chunks are padded to even lengths


def _refuse_truncated_ogg(file: BinaryIO, size: int, path: Path) -> None:
    """Raise unless the last page marks the end of the stream (RFC 3533); libsndfile accepts any page as the last."""
    file.seek(max(size - _LONGEST_OGG_PAGE, 0))
    tail = file.read()
    pages = (tail[match.start() :] for match in re.finditer(b"OggS", tail))
    if not any(_is_whole_last_page(page) for page in pages):
        raise AudioFault(f"truncated, the end of the stream is missing: {path}")


def _is_whole_last_page(page: bytes) -> bool:
    if len(page) < _OGG_HEADER or not page[5] & _OGG_END_OF_STREAM:
        return False
    segments = page[_OGG_HEADER - 1]
    return len(page) >= _OGG_HEADER + segments + sum(page[_OGG_HEADER : _OGG_HEADER + segments])
