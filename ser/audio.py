"""Reads an utterance's audio, and says what is wrong with a file rather than giving less than it promises."""

from __future__ import annotations

import os
import re
import stat
import struct
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"})
"""What the loaders of corpora take for audio (in lower case)."""

LOWEST_RATE = 1000
END_TOLERANCE = 0.05
"""By how many seconds a cut may end after its file; transcripts round."""

MIN_SECONDS = 0.032
"""The shortest utterance: one analysis window of either front end."""

# Writers that cannot seek back leave the size of the data chunk at 0 or at about 2 or 4 GiB.
_STREAMED_FROM = 0x7FFF0000

_OGG_HEADER = 27
_LONGEST_OGG_PAGE = _OGG_HEADER + 255 + 255 * 255
_OGG_END_OF_STREAM = 4

_FMT = struct.Struct("<HHIIHH")
"""Of a WAV file: kind of samples, channels, samples and bytes per second, bytes of a frame, bits of a sample."""
_PCM = 1

_OF_16_BITS = np.float32(2**-15)

LOUDEST = 1e6
"""Largest sample that can be meant; full scale is 1."""
LONGEST_SECONDS = 1e5
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


class AudioFault(Exception):
    """What is wrong with an utterance's audio; the text names the fault and the file."""


def read_audio(
    path: str | Path, start: float | None = None, end: float | None = None, rate: int = 16000
) -> NDArray[np.float32]:
    """Decodes an audio file, or a cut of it, to one channel of floating point.

    Args:
        path: As all others, those of ``read_samples``.
        start: Where the cut begins, in seconds; None is the file's beginning.
        end: Where the cut ends, in seconds; None is the file's end.
        rate: Samples per second of the result.

    Returns:
        (samples,) full scale ±1.

    Raises:
        AudioFault: As ``read_samples``.
    """
    return full_scale(read_samples(path, start, end, rate))


def full_scale(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of ``read_samples`` as floating point, full scale ±1."""
    return np.multiply(samples, _OF_16_BITS, dtype=np.float32) if samples.dtype == np.int16 else samples


def read_samples(
    path: str | Path, start: float | None = None, end: float | None = None, rate: int = 16000
) -> NDArray[np.int16] | NDArray[np.float32]:
    """Decodes an audio file, or a cut of it, to one channel, and leaves 16-bit samples as they are.

    Args:
        path: Any format that libsndfile reads.
        start: Where the cut begins, in seconds; None is the file's beginning.
        end: Where the cut ends, in seconds, at most ``END_TOLERANCE`` after the file does; None is the file's
            end.
        rate: Samples per second of the result; other rates are converted by soxr at high quality.

    Returns:
        (samples,) the mean of the channels: 16-bit integers if the file holds one channel of them at that rate, else
        floating point, full scale ±1.

    Raises:
        AudioFault: The file is missing, empty, unreadable or shorter than its header says (of truncated FLAC, OGG,
            AIFF and WAV files, also where the cut lies before the missing part), the cut lies beyond the file's
            end or is shorter than ``MIN_SECONDS``, or its samples are not finite or all the same (silence).
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or stat.S_ISCHR(status.st_mode):
            raise AudioFault(f"not a file, but a pipe or a device: {path}")
        if status.st_size == 0:
            raise AudioFault(f"file is empty (0 bytes): {path}")
        with path.open("rb") as file, _opened(file, status.st_size, path) as sound:
            source_rate: int = sound.samplerate
            if source_rate < LOWEST_RATE:
                raise AudioFault(f"{source_rate} samples per second, which is no speech: {path}")
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


class _PlainWav:
    """A WAV file of 16-bit samples, read as ``soundfile.SoundFile`` reads it, in less than half the time.

    Args:
        file: Stands at the first sample.
        samplerate: Samples per second.
        channels: Samples of a frame.
        frames: How many are there.
    """

    subtype = "PCM_16"

    def __init__(self, file: BinaryIO, samplerate: int, channels: int, frames: int) -> None:
        self.samplerate, self.frames = samplerate, frames
        self._file, self._channels = file, channels

    def seek(self, frames: int) -> None:
        """Leaves out so many frames from the beginning."""
        self._file.seek(2 * self._channels * frames, os.SEEK_CUR)

    def read(self, frames: int, **_: object) -> NDArray[np.int16]:
        """(frames, channels), fewer where the file ends."""
        samples = np.empty((frames, self._channels), dtype="<i2")
        return samples[: self._file.readinto(samples) // (2 * self._channels)]  # type: ignore[attr-defined]


def _decode(sound: soundfile.SoundFile | _PlainWav, start: float | None, end: float | None, path: Path) -> NDArray[Any]:
    """The cut's (samples, channels), decoding nothing else: of 16 bits if the file's are, else floating point."""
    rate, total = sound.samplerate, sound.frames
    if total == 0:
        raise AudioFault(f"file holds no samples: {path}")
    if total >= 2**62:
        raise AudioFault(f"header does not say how many samples there are, encode the file again: {path}")
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
    narrow = sound.subtype == "PCM_16"  # whose conversion by libsndfile takes longer than all else of the reading
    samples: NDArray[Any] = sound.read(count, dtype="int16" if narrow else "float32", always_2d=True)
    if len(samples) < count:
        raise AudioFault(f"truncated, {len(samples)} of {count} samples are there: {path}")
    return samples


def _opened(file: BinaryIO, size: int, path: Path) -> soundfile.SoundFile | AbstractContextManager[_PlainWav]:
    """Refuses what libsndfile would read without a word: less than the header says there is, and stubs."""
    beginning = file.read(len(LFS_POINTER))
    if beginning == LFS_POINTER:
        raise AudioFault(f"Git LFS's stub in place of the audio, run git lfs pull there: {path}")
    if beginning[:4] in (b"RIFF", b"RF64") and beginning[8:12] == b"WAVE":
        plain = _plain_wav(file, size, path)
        if plain is not None:
            return nullcontext(plain)
    elif beginning[:4] == b"OggS":
        _refuse_truncated_ogg(file, size, path)
    elif beginning[:4] in (b"FORM", b"riff"):
        _refuse_truncated_aiff_or_w64(beginning, size, path)
    return soundfile.SoundFile(path)


def _refuse_truncated_aiff_or_w64(header: bytes, size: int, path: Path) -> None:
    """Compares an AIFF or Wave64 file's size to its header."""
    declared = 0
    if header[:4] == b"FORM" and header[8:12] in (b"AIFF", b"AIFC"):
        declared = int.from_bytes(header[4:8], "big") + 8
    elif header[:4] == b"riff":
        declared = int.from_bytes(header[16:24], "little")
    if size < declared < _STREAMED_FROM:
        raise AudioFault(f"truncated, {size} of {declared} bytes are there: {path}")


def _refuse_truncated_ogg(file: BinaryIO, size: int, path: Path) -> None:
    """Looks for the end of the stream in the last page (RFC 3533); libsndfile takes any page for the last."""
    file.seek(max(size - _LONGEST_OGG_PAGE, 0))
    tail = file.read()
    pages = (tail[match.start() :] for match in re.finditer(b"OggS", tail))
    if not any(_is_whole_last_page(page) for page in pages):
        raise AudioFault(f"truncated, the stream has no end: {path}")


def _is_whole_last_page(page: bytes) -> bool:
    if len(page) < _OGG_HEADER or not page[5] & _OGG_END_OF_STREAM:
        return False
    segments = page[_OGG_HEADER - 1]
    return len(page) >= _OGG_HEADER + segments + sum(page[_OGG_HEADER : _OGG_HEADER + segments])


def _plain_wav(file: BinaryIO, size: int, path: Path) -> _PlainWav | None:
    """Compares a WAV file's size to its header, and opens it if its samples are plain 16-bit ones."""
    file.seek(0)
    header = file.read(12)
    limit, long_data, form = _STREAMED_FROM, 0, b""
    while len(chunk := file.read(8)) == 8:
        declared = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"ds64":  # EBU Tech 3306: where 32 bits are too few
            long_data = int.from_bytes(file.read(16)[8:], "little")
            file.seek(-16, os.SEEK_CUR)
        elif chunk[:4] == b"fmt " and declared >= _FMT.size:
            form = file.read(_FMT.size)
            file.seek(-_FMT.size, os.SEEK_CUR)
        elif chunk[:4] == b"data":
            there = size - file.tell()
            if header[:4] == b"RF64":
                declared, limit = long_data, 2**63
            if there < declared < limit:
                raise AudioFault(f"truncated, {there} of {declared} bytes of samples are there: {path}")
            if header[:4] != b"RIFF" or len(form) < _FMT.size or not 0 < declared <= there:
                return None
            tag, channels, rate, _, block, bits = _FMT.unpack(form)
            if (tag, bits, block) != (_PCM, 16, 2 * channels) or channels == 0:
                return None
            return _PlainWav(file, rate, channels, declared // block)
        file.seek(declared + declared % 2, os.SEEK_CUR)  # chunks are padded to even lengths
    return None
