"""RAVDESS: the Ryerson Audio-Visual Database of Emotional Speech and Song (Livingstone and Russo, 2018)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import duplicate_errors, list_audio
from ser.utils.errors import UserError

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of the codes 01 to 08."""

SHARED_WITH_CREMA_D = ("neutral", "happy", "sad", "angry", "fearful", "disgust")
"""The default: noise by CREMA-D's confusions is defined for these classes alone."""

# The seven fields of a file name with their highest codes; the lowest code is always 01.
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
_COLUMNS = ["utterance_id", "path", "speaker", "gender", "label"]
_LAYOUT = "Actor_NN/03-01-EE-II-SS-RR-AA.wav (or .flac, …), at any depth"


def load_ravdess(root: Path) -> LoaderResult:
    """Load the speech of RAVDESS from its file names; no audio is decoded.

    Only the name counts, ``03-01-EE-II-SS-RR-AA`` (audio only, speech, emotion, intensity, statement, repetition,
    actor); folders may be nested in any way. Songs (``03-02-…``), videos, hidden files and files that are not audio
    are not part of this corpus and are skipped.

    Args:
        root: A folder with ``Actor_NN/03-01-EE-II-SS-RR-AA.wav`` below it.

    Returns:
        The rows: utterance id = the file's name without its suffix, speaker ``Actor_NN``, odd actors male, no
        sessions, no votes. The classes are all eight; ``load`` chooses ``SHARED_WITH_CREMA_D`` by default. Data
        errors are names with unknown codes, and an utterance in several files.

    Raises:
        UserError: If there is no speech below ``root``.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Expected is the folder of RAVDESS: {_LAYOUT}.")
    files: dict[str, list[Path]] = defaultdict(list)
    errors: list[tuple[str, str]] = []
    for path in list_audio(root):
        fields = path.stem.split("-")
        if len(fields) != len(_FIELDS) and not path.stem.startswith(_SPEECH):
            continue
        if problem := _name_problem(fields):
            errors.append((path.relative_to(root).as_posix(), problem))
        elif path.stem.startswith(_SPEECH):
            files[path.stem].append(path)
    errors += duplicate_errors(files, root, "utterance")
    if not files and not errors:
        raise UserError(f"no RAVDESS speech found below {root}. Expected: {_LAYOUT}.")
    return LoaderResult(
        "ravdess",
        f"corpus 'ravdess' at {root}",
        pd.DataFrame([_row(paths[0]) for paths in files.values()], columns=_COLUMNS),
        CLASSES,
        root,
        errors,
        f"Expected: {_LAYOUT}.",
        default_classes=",".join(SHARED_WITH_CREMA_D),
    )


def _name_problem(fields: list[str]) -> str | None:
    """Return what is wrong with the fields of a name, or None."""
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
