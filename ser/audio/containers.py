"""Audio in containers and encodings that libsndfile does not read, such as M4A and WebM, decoded by PyAV (an extra)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ser.audio.damage import LONGEST_SECONDS, MP4_BOXES, AudioFault, is_adts

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

CONTAINERS = frozenset({".3gp", ".aac", ".amr", ".m4a", ".mka", ".mp4", ".webm", ".wma"})
"""Files that need PyAV, by their suffix, in lower case. Which decoder reads a file is decided by its content."""

_MAGIC = {b"\x1aE\xdf\xa3": "matroska", b"0&\xb2u": "asf", b"#!AM": "amr"}
_LARGEST_PADDING = 4096
"""Samples by which the last frame of an MP4 file may exceed its duration; frames of AAC have 1024 or 2048."""


class Decoded(NamedTuple):
    """Part of a recording.

    Args:
        samples: (samples, channels) full scale ±1; the first one is that of the cut.
        rate: Samples per second.
        total: Samples from the beginning of the recording to the end of the part.
    """

    samples: NDArray[np.float32]
    rate: int
    total: int


class Header(NamedTuple):
    """Properties of a recording.

    Args:
        rate: Samples per second.
        channels: Number of channels.
        seconds: Duration; 0 if the file does not give it.
        format: Container and encoding, such as ``MOV AAC``.
    """

    rate: int
    channels: int
    seconds: float
    format: str


def container_of(file: BinaryIO, path: str | Path) -> str | None:
    """Return FFmpeg's name of a file's container, or None if it is none that this module reads.

    Args:
        file: The file's content.
        path: Its name; the suffix decides whether AAC or MP3 follows an ID3 tag.
    """
    file.seek(0)
    head = file.read(8)
    if head[4:] in MP4_BOXES:
        return "mov"
    if is_adts(head) or (head[:3] == b"ID3" and str(path).lower().endswith(".aac")):
        return "aac"
    return _MAGIC.get(head[:4])


def read_header(file: BinaryIO, container: str, path: str | Path) -> Header:
    """Return the properties of a recording without decoding it.

    Args:
        file: The file's content.
        container: As of ``container_of``.
        path: The file's name, for messages.

    Raises:
        AudioFault: If the file cannot be read, or PyAV is not installed.
    """
    with _opened(file, container, path) as (opened, stream):
        return _header(opened, stream, container)


def decode(
    file: BinaryIO, container: str, start: float | None, end: float | None, path: str | Path
) -> tuple[Decoded, Header]:
    """Decode a recording, or a cut of it.

    Decoding begins with the recording, because a seek in compressed audio does not lead to an exact sample, and ends
    with the cut. Samples that an encoder put before and after the recording are left out where the file counts them.

    Args:
        file: The file's content.
        container: As of ``container_of``.
        start: Start of the cut in seconds; None is the start of the recording.
        end: End of the cut in seconds; None is the end of the recording.
        path: The file's name, for messages.

    Returns:
        The samples, and the properties of the recording.

    Raises:
        AudioFault: If the file cannot be decoded, or PyAV is not installed.
    """
    blocks: list[NDArray[np.float32]] = []
    rate = total = 0
    with _opened(file, container, path) as (opened, stream):
        header = _header(opened, stream, container)
        for frame in opened.decode(stream):
            if rate and frame.sample_rate != rate:
                raise AudioFault(f"sample rate changes from {rate} to {frame.sample_rate} Hz: {path}")
            rate = frame.sample_rate
            first = 0 if start is None else round(start * rate)
            block = _samples(frame)[max(first - total, 0) :]
            if blocks and block.shape[1] != blocks[0].shape[1]:
                raise AudioFault(f"number of channels changes from {blocks[0].shape[1]} to {block.shape[1]}: {path}")
            blocks.append(block)
            total += frame.samples
            if total > (LONGEST_SECONDS if end is None else end) * rate:
                break
    if not total:
        raise AudioFault(f"file holds no samples: {path}")
    samples = np.concatenate(blocks)
    padding = total - round(header.seconds * rate) if container == "mov" else 0
    if 0 < padding <= _LARGEST_PADDING:
        samples, total = samples[: max(len(samples) - padding, 0)], total - padding
    return Decoded(samples, rate, total), header


@contextmanager
def _opened(file: BinaryIO, container: str, path: str | Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    """Open the audio of a file; raise ``AudioFault`` for what goes wrong inside too."""
    try:
        import av
    except ImportError:
        raise AudioFault(
            "reading such a file needs PyAV (the extra containers): pip install av, or convert the file: ffmpeg -i "
            f"{Path(path).name} {Path(path).stem}.flac: {path}"
        ) from None
    file.seek(0)
    try:
        # Naming the format keeps FFmpeg from guessing it; playlists, for instance, would have it open other files.
        with av.open(file, "r", format=container, metadata_errors="replace") as opened:
            stream = opened.streams.best("audio")
            if not isinstance(stream, av.AudioStream):
                raise AudioFault(f"file holds no audio: {path}")
            yield opened, stream
    except av.FFmpegError as error:
        raise AudioFault(f"file cannot be decoded ({error.strerror}): {path}") from None


def _header(opened: InputContainer, stream: AudioStream, container: str) -> Header:
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (opened.duration or 0) / 1e6
    codec = stream.codec_context
    return Header(codec.sample_rate, codec.channels, seconds, f"{container} {codec.name}".upper())


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    """Return the samples of a frame, (samples, channels), full scale ±1."""
    values: NDArray[Any] = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, len(frame.layout.channels))
    if values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    middle, unit = (128, 128) if values.dtype == np.uint8 else (0, 2 ** (8 * values.itemsize - 1))
    return np.asarray(np.subtract(values, middle, dtype=np.float64) / unit, dtype=np.float32)
