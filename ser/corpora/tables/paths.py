"""Audio files that a table names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from ser.audio import SUFFIXES, embedded

_TRIED = 100  # names by which the folder is found


class _Content(NamedTuple):
    """Content of a folder: its path with a slash, all names, and those of audio files by their stem."""

    path: str
    names: frozenset[str]
    audio: dict[str, list[str]]


def nearest_folder(names: Sequence[str], folder: Path) -> Path:
    """Return the folder that relative names begin at: the nearest one, from ``folder`` upwards, where a file exists.

    Args:
        names: Names of audio files; the first ones are tried.
        folder: The folder of the table, which is returned if nothing exists.
    """
    relative = [name for name in names[:_TRIED] if name and not Path(name).is_absolute()]
    bases = (folder, *folder.parents) if relative else ()
    return next((base for base in bases if any(map(_Finder(base).find, relative))), folder)


def find_audio(names: Sequence[str], folder: Path) -> tuple[list[str], list[str]]:
    r"""Return the paths of audio files by the names that a table gives them.

    A name without the suffix of an audio format is completed if its folder has one audio file of that stem. Where no
    file has the name, ``\`` may stand for ``/``, and accents may be written in another Unicode form, as macOS does.

    Args:
        names: N names, absolute or relative to ``folder``; empty names stay empty.
        folder: Where relative names begin.

    Returns:
        N absolute paths, and notes about completed names and missing files.
    """
    finder = _Finder(folder)
    paths: list[str] = []
    missing: list[str] = []
    for name in names:
        path = finder.find(name) if name else ""
        paths.append(str(folder / name) if path is None else path)
        missing += [paths[-1]] if path is None else []
    notes = [f"{finder.completed} names of audio files are completed by their suffix"] if finder.completed else []
    if missing:
        notes.append(
            f"{len(missing)} of {len(names)} audio files do not exist, the first: {missing[0]}. "
            f"Relative names begin at {folder}; corpus table takes another folder with --corpus-options audio=FOLDER"
        )
    return paths, notes


class _Finder:
    """Search for files that lists each folder once.

    Args:
        folder: Where relative names begin.
    """

    def __init__(self, folder: Path) -> None:
        self.completed = 0
        self._content = lru_cache(maxsize=None)(lambda part: _content(folder / part))

    def find(self, name: str) -> str | None:
        """Return the absolute path of the file of a name, or None."""
        forms = (normalize(form, name) for form in ("NFC", "NFD"))
        for written in dict.fromkeys((name, name.replace("\\", "/"), *forms)):
            head, slash, tail = written.rpartition("/")
            content = self._content(head or slash)
            if tail in content.names or ("#" in written and embedded.cell_of(content.path + tail) is not None):
                return content.path + tail
            if len(found := content.audio.get(tail, [])) == 1:
                self.completed += 1
                return content.path + found[0]
        return None


def _content(folder: Path) -> _Content:
    audio: defaultdict[str, list[str]] = defaultdict(list)
    try:
        names = frozenset(path.name for path in folder.iterdir())
    except (OSError, ValueError):  # ValueError: a NUL in the path
        names = frozenset()
    for name in names:
        if Path(name).suffix.lower() in SUFFIXES:
            audio[Path(name).stem].append(name)
    return _Content(f"{str(folder).rstrip('/')}/", names, dict(audio))
