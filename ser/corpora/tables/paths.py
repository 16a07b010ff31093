"""Audio files that a table names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ser.audio import SUFFIXES, embedded

_TRIED = 100  # names by which the folder is found


def nearest_folder(names: Sequence[str], folder: Path) -> Path:
    """Return the folder that relative names begin at: the nearest one, from ``folder`` upwards, where a file exists.

    Args:
        names: Names of audio files; the first ones are tried.
        folder: The folder of the table, which is returned if nothing exists.
    """
    finder = _Finder()
    relative = [name for name in names[:_TRIED] if name and not Path(name).is_absolute()]
    bases = (folder, *folder.parents) if relative else ()
    return next((base for base in bases if any(finder.find(name, base) for name in relative)), folder)


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
    finder = _Finder()
    found = [finder.find(name, folder) if name else None for name in names]
    paths = [str(path or folder / name) if name else "" for path, name in zip(found, names, strict=True)]
    missing = [path for file, path in zip(found, paths, strict=True) if path and file is None]
    notes = [f"{finder.completed} names of audio files are completed by their suffix"] if finder.completed else []
    if missing:
        notes.append(
            f"{len(missing)} of {len(names)} audio files do not exist, the first: {missing[0]}. "
            f"Relative names begin at {folder}; corpus table takes another folder with --corpus-options audio=FOLDER"
        )
    return paths, notes


class _Finder:
    """Search for files that lists each folder once."""

    def __init__(self) -> None:
        self.completed = 0
        self._list = lru_cache(maxsize=None)(_content)

    def find(self, name: str, folder: Path) -> Path | None:
        """Return the file of a name, or None."""
        for path in dict.fromkeys((folder / name, folder / name.replace("\\", "/"))):
            names, stems = self._list(path.parent)
            if path.name in names or embedded.cell_of(path) is not None:
                return path
            if len(found := stems.get(path.name, [])) == 1:
                self.completed += 1
                return path.parent / found[0]
        return None


def _content(folder: Path) -> tuple[frozenset[str], dict[str, list[str]]]:
    """Return the names in a folder, and those of audio files by their stem."""
    stems: defaultdict[str, list[str]] = defaultdict(list)
    try:
        names = frozenset(path.name for path in folder.iterdir())
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return frozenset(), {}
    for name in names:
        if Path(name).suffix.lower() in SUFFIXES:
            stems[Path(name).stem].append(name)
    return names, dict(stems)
