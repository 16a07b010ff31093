"""Audio files that a table names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ser.audio import SUFFIXES, embedded


class _Content(NamedTuple):
    """Content of a folder: all names, and the names of audio files by their stem."""

    names: frozenset[str]
    audio: dict[str, list[str]]


def find_audio(names: Sequence[str], folder: Path) -> tuple[list[str], list[str]]:
    r"""Return the paths of audio files by the names that a table gives them.

    A name without the suffix of an audio format is completed if its folder has one audio file of that stem. Where no
    file has the name, ``\`` may stand for ``/``.

    Args:
        names: N names, absolute or relative to ``folder``; empty names stay empty.
        folder: Where relative names begin.

    Returns:
        N absolute paths, and notes about completed names and missing files.
    """
    content_of = lru_cache(maxsize=None)(_content)
    paths: list[str] = []
    missing: list[str] = []
    completed = 0
    for name in names:
        path = folder / name
        if name and path.name not in content_of(path.parent).names and embedded.cell_of(path) is None:
            slashed = folder / name.replace("\\", "/")
            content = content_of(slashed.parent)
            found = content.audio.get(slashed.name, [])
            if slashed.name in content.names:
                path = slashed
            elif len(found) == 1:
                path, completed = slashed.parent / found[0], completed + 1
            else:
                missing.append(str(path))
        paths.append(str(path) if name else "")
    notes = [f"{completed} names of audio files are completed by their suffix"] if completed else []
    if missing:
        notes.append(
            f"{len(missing)} of {len(names)} audio files do not exist, the first: {missing[0]}. "
            f"Relative names begin at {folder}"
        )
    return paths, notes


def _content(folder: Path) -> _Content:
    audio: defaultdict[str, list[str]] = defaultdict(list)
    try:
        names = frozenset(path.name for path in folder.iterdir())
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return _Content(frozenset(), {})
    for name in names:
        if Path(name).suffix.lower() in SUFFIXES:
            audio[Path(name).stem].append(name)
    return _Content(names, dict(audio))
