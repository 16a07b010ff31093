"""Damage that libsndfile reads without an error: stubs, and files that are shorter than their header says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

# Writers that cannot seek back leave the declared size at 0 or at about 2 or 4 GiB.
_STREAMED_FROM = 0x7FFF0000

_OGG_HEADER = 27
_LONGEST_OGG_PAGE = _OGG_HEADER + 255 + 255 * 255
_OGG_END_OF_STREAM = 4

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


class AudioFault(Exception):
    """Fault of an utterance's audio; the text names the fault and the file."""


def refuse_damaged(file: BinaryIO, size: int, path: str | Path) -> None:
    """Raise for stubs and truncated files, which libsndfile reads as far as they go without an error.

    Args:
        file: The file's content, at its beginning.
        size: Bytes of the content.
        path: The file's name, for the message.

    Raises:
        AudioFault: If the file is a stub or truncated.
    """
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


def _refuse_less_than(declared: int, size: int, path: str | Path, what: str = "bytes") -> None:
    if size < declared < _STREAMED_FROM:
        raise AudioFault(f"truncated, {size} of {declared} {what} are there: {path}")


def _refuse_truncated_wav(file: BinaryIO, size: int, path: str | Path) -> None:
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


def _refuse_truncated_ogg(file: BinaryIO, size: int, path: str | Path) -> None:
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
