"""Damage that decoders read without an error: stubs, and files that are shorter than their header says."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# Writers that cannot seek back leave the declared size at 0 or at about 2 or 4 GiB.
_STREAMED_FROM = 0x7FFF0000

_OGG_HEADER = 27
_LONGEST_OGG_PAGE = _OGG_HEADER + 255 + 255 * 255
_OGG_END_OF_STREAM = 4

_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")

LONGEST_SECONDS = 1e5
"""Longest plausible recording."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


class AudioFault(Exception):
    """Fault of an utterance's audio; the text names the fault and the file."""


def refuse_damaged(file: BinaryIO, size: int, path: str | Path) -> None:
    """Raise for stubs and truncated files, which decoders read as far as they go without an error.

    Args:
        file: The file's content.
        size: Bytes of the content.
        path: The file's name, for the message.

    Raises:
        AudioFault: If the file is a stub or truncated.
    """
    file.seek(0)
    header = file.read(len(LFS_POINTER))
    kind, form = header[:4], header[8:12]
    if header == LFS_POINTER:
        raise AudioFault(f"Git LFS stub instead of audio, run git lfs pull in its repository: {path}")
    if kind == b"OggS":
        _refuse_truncated_ogg(file, size, path)
    elif kind in (b"RIFF", b"RF64") and form == b"WAVE":
        start, declared = _wav_samples(file)
        _refuse_less_than(declared, size - start, path, "bytes of samples")
    elif kind in _DECLARED:
        _refuse_less_than(_DECLARED[kind](file, header), size, path)
    elif is_adts(header):
        _refuse_less_than(_adts_size(file), size, path)
    elif header[4:8] in MP4_BOXES:
        _refuse_less_than(_mp4_size(file, size), size, path)


MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
"""Kinds of boxes that an MP4 or QuickTime file may begin with; they are its bytes 4 to 7."""


def is_adts(header: bytes) -> bool:
    """Decide whether content begins with a frame of AAC, which differs from one of MPEG audio by naming no layer.

    Args:
        header: Its first two bytes or more.
    """
    return len(header) > 1 and header[0] == 0xFF and header[1] & 0xF6 == 0xF0


def repaired_wav(file: BinaryIO, size: int) -> bytes | None:
    """Return the content of a WAV file whose writer could not fill in the number of samples, with that number.

    libsndfile reads as many samples as there are if the header says 4 GiB, but none if it says 0.

    Args:
        file: The file's content.
        size: Bytes of the content.

    Returns:
        The content, or None if the file is no WAV file, gives its size, or really holds no samples.
    """
    file.seek(0)
    if not re.fullmatch(rb"(?s)RIFF....WAVE", file.read(12)):
        return None
    start, declared = _wav_samples(file)
    if declared or not start or start == size or _are_chunks(file, start, size):
        return None
    file.seek(0)
    content = bytearray(file.read())
    struct.pack_into("<I", content, start - 4, min(size - start, 0xFFFFFFFF))
    return bytes(content)


def _refuse_less_than(declared: int, size: int, path: str | Path, what: str = "bytes") -> None:
    if size < declared < _STREAMED_FROM:
        raise AudioFault(f"truncated, {size} of {declared} {what} are there: {path}")


def _wav_samples(file: BinaryIO) -> tuple[int, int]:
    """Return where a WAV file's samples begin, and their declared size; zeros if there are none.

    The size of the whole in the first header does not serve: writers that append chunks leave it as it was.
    """
    long_size = 0
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        name, declared = chunk[:4], int.from_bytes(chunk[4:], "little")
        start = file.tell()
        if name == b"data":
            return start, long_size or declared
        if name == b"ds64":  # 64-bit sizes (EBU Tech 3306)
            long_size = int.from_bytes(file.read(16)[8:], "little")
        file.seek(start + declared + declared % 2)  # chunks are padded to even lengths
    return 0, 0


def _are_chunks(file: BinaryIO, start: int, size: int) -> bool:
    """Decide whether whole chunks with readable names follow up to the end, rather than samples."""
    while start < size:
        file.seek(start)
        chunk = file.read(8)
        declared = int.from_bytes(chunk[4:], "little")
        start += 8 + declared
        if len(chunk) < 8 or not re.fullmatch(rb"[ -~]{4}", chunk[:4]) or start > size:
            return False
        start += declared % 2
    return True


def _sphere_size(file: BinaryIO, header: bytes) -> int:
    """Return the size that the header of a NIST SPHERE file gives; 0 for compressed ones."""
    text = header + file.read(1024 - len(header))
    fields = dict(re.findall(rb"(\w+) -i (\d+)", text))
    counts = [int(fields.get(name, 0)) for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    begin = int(header[8:16]) if header[8:16].strip().isdigit() else 0
    return 0 if b"embedded" in text else begin + counts[0] * counts[1] * counts[2]


def _voc_size(file: BinaryIO, header: bytes) -> int:
    """Return where the last block of a VOC file ends; a block is its kind, three bytes of length, and its content."""
    place = int.from_bytes(header[20:22], "little")
    file.seek(place)
    while len(block := file.read(4)) == 4 and block[0]:
        place += 4 + int.from_bytes(block[1:], "little")
        file.seek(place)
    return place


def _mp4_size(file: BinaryIO, size: int) -> int:
    """Return where the last box of an MP4 file ends; a box begins with its whole length and its kind."""
    place = 0
    while place < size:
        file.seek(place)
        length = int.from_bytes(file.read(8)[:4], "big")
        if length == 1:  # the length is the 64 bits that follow
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: up to the end
            return size
        place += length
    return place


def _caf_size(file: BinaryIO, header: bytes) -> int:
    """Return where the last chunk of a CAF file ends; 0 if its samples extend to wherever the file ends."""
    place = 8
    file.seek(place)
    while len(chunk := file.read(12)) == 12:
        length = int.from_bytes(chunk[4:], "big", signed=True)
        if length < 0:
            return 0
        place += 12 + length
        file.seek(place)
    return place


def _adts_size(file: BinaryIO) -> int:
    """Return where the last frame of an AAC file ends; a frame gives its length in 13 bits from bit 30 on."""
    place = 0
    file.seek(place)
    while (frame := file.read(6)) and frame[0] == 0xFF:
        length = int.from_bytes(frame[3:6], "big") >> 5 & 0x1FFF
        place += max(length, 7)
        file.seek(place)
    return place


def _matroska_size(file: BinaryIO, header: bytes) -> int:
    """Return where the segment of a Matroska file ends (RFC 8794); 0 if it does not say so."""
    file.seek(4)
    first, _ = _ebml_number(file)
    file.seek(first, 1)
    file.seek(4, 1)  # the segment's name
    length, unknown = _ebml_number(file)
    return 0 if unknown else file.tell() + length


def _ebml_number(file: BinaryIO) -> tuple[int, bool]:
    """Read a number whose first byte has as many leading zeros as bytes follow; all ones stand for unknown."""
    first = file.read(1) or b"\xff"
    width = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width), "big")
    ones = (1 << 7 * (width + 1)) - 1
    return value & ones, value & ones == ones


def _asf_size(file: BinaryIO, header: bytes) -> int:
    """Return the size in the properties of an ASF file; 0 while it is written."""
    content = header + file.read(2**16)
    place = content.find(_ASF_PROPERTIES)
    return 0 if place < 0 else int.from_bytes(content[place + 40 : place + 48], "little")


_DECLARED: dict[bytes, Callable[[BinaryIO, bytes], int]] = {
    b"FORM": lambda file, header: int.from_bytes(header[4:8], "big") + 8,  # AIFF
    b"riff": lambda file, header: int.from_bytes(header[16:24], "little"),  # Wave64
    b".snd": lambda file, header: sum(struct.unpack(">II", header[4:12])),  # AU: place and length of the samples
    b"NIST": _sphere_size,
    b"caff": _caf_size,
    b"Crea": _voc_size,  # "Creative Voice File"
    b"\x1aE\xdf\xa3": _matroska_size,
    b"0&\xb2u": _asf_size,
}
"""First four bytes of a file → the size that it should have; 0, or ``_STREAMED_FROM`` and more, if it is not given."""


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
