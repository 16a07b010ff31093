"""RAVDESS: the Ryerson Audio-Visual Database of Emotional Speech and Song (Livingstone and Russo, 2018)."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pandas as pd

from ser.audio import SUFFIXES
from ser.corpora.corpus import Corpus
from ser.errors import DataFaults, UserError

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of the codes 01 to 08."""

# The seven fields of a file's name, and the highest code of each; all count from 01.
_FIELDS = {
    "modality": 3,
    "vocal channel": 2,
    "emotion": len(CLASSES),
    "intensity": 2,
    "statement": 2,
    "repetition": 2,
    "actor": 24,
}
_SPEECH = "03-01-"
_LAYOUT = "Actor_NN/03-01-EE-II-SS-RR-AA.wav (or .flac, …), at any depth"


def load_ravdess(root: Path) -> Corpus:
    """Reads RAVDESS's speech from its file names; no audio is decoded.

    What counts is the name, ``03-01-EE-II-SS-RR-AA`` (audio only, speech, emotion, intensity, statement,
    repetition, actor); folders may be nested in any way. Songs (``03-02-…``), videos, hidden files and files
    that are not audio are not part of this corpus and are passed over.

    Args:
        root: A folder with ``Actor_NN/03-01-EE-II-SS-RR-AA.wav`` below it.

    Returns:
        The corpus: utterance id = the file's name without its suffix, speaker ``Actor_NN``, odd actors male, no
        sessions, no votes.

    Raises:
        UserError: There is no speech below ``root``.
        DataFaults: Names with codes that do not exist, or the same utterance in several files; all are
            listed.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Expected is RAVDESS's: {_LAYOUT}.")
    files: dict[str, list[Path]] = defaultdict(list)
    faults: list[tuple[str, str]] = []
    for path in _below(root):
        place = path.relative_to(root)
        hidden = any(part.startswith(".") for part in place.parts)
        if hidden or path.suffix.lower() not in SUFFIXES:
            continue
        fields = path.stem.split("-")
        if len(fields) != len(_FIELDS) and not path.stem.startswith(_SPEECH):
            continue
        if fault := _fault(fields):
            faults.append((place.as_posix(), fault))
        elif path.stem.startswith(_SPEECH):
            files[path.stem].append(path)
    for name, paths in files.items():
        if len(paths) > 1:
            places = ", ".join(path.relative_to(root).as_posix() for path in paths)
            faults.append((name, f"{len(paths)} files are this utterance: {places}"))
    if faults:
        raise DataFaults(
            f"corpus 'ravdess' at {root}",
            faults,
            f"Expected: {_LAYOUT}. Rename the files or move them elsewhere.",
        )
    if not files:
        raise UserError(f"no RAVDESS speech below {root}. Expected: {_LAYOUT}.")
    return Corpus("ravdess", pd.DataFrame([_row(paths[0]) for paths in files.values()]), CLASSES, root)


def _below(root: Path) -> list[Path]:
    """Everything below ``root``, sorted: through links, and with an error for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise UserError(f"folder {str(error.filename)!r} cannot be read: {error.strerror}.") from error

    found = os.walk(root, onerror=refuse, followlinks=True)
    return sorted(Path(folder) / name for folder, folders, files in found for name in (*folders, *files))


def _fault(fields: list[str]) -> str | None:
    """What is wrong with a name's fields, if anything."""
    if len(fields) != len(_FIELDS):
        return f"the name has {len(fields)} fields, not {len(_FIELDS)}"
    wrong = [
        f"{field} {code!r} is not one of 01 to {highest:02}"
        for code, (field, highest) in zip(fields, _FIELDS.items(), strict=True)
        if code not in {f"{number:02}" for number in range(1, highest + 1)}
    ]
    return "; ".join(wrong) or None


def _row(path: Path) -> dict[str, str]:
    _, _, emotion, _, _, _, actor = path.stem.split("-")
    return {
        "utterance_id": path.stem,
        "path": str(path),
        "speaker": f"Actor_{actor}",
        "gender": "male" if int(actor) % 2 else "female",
        "label": CLASSES[int(emotion) - 1],
    }
