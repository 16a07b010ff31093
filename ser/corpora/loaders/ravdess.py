"""RAVDESS: the Ryerson Audio-Visual Database of Emotional Speech and Song (Livingstone and Russo, 2018)."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import list_files, separate_copies
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
_EXAMPLE = "03-01-06-01-02-01-12.wav"
_LAYOUT = "Actor_NN/03-01-EE-II-SS-RR-AA.wav (or .flac, …), at any depth"


def load_ravdess(root: Path) -> LoaderResult:
    """Load the speech of RAVDESS from its file names; no audio is decoded.

    Only the name counts, ``03-01-EE-II-SS-RR-AA`` (audio only, speech, emotion, intensity, statement, repetition,
    actor); folders may be nested in any way. An utterance that is there twice, as in a well-known archive, counts
    once. Songs (``03-02-…``), videos and all other files are counted in ``unused``.

    Args:
        root: A folder with ``Actor_NN/03-01-EE-II-SS-RR-AA.wav`` below it.

    Returns:
        The rows: utterance id = the file's name without its suffix, speaker ``Actor_NN``, odd actors male, no
        sessions, no votes. The classes are all eight; ``load`` chooses ``SHARED_WITH_CREMA_D`` by default. Data
        errors are names with unknown codes, and different files of one utterance.

    Raises:
        UserError: If there is no speech below ``root``.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Expected is the folder of RAVDESS: {_LAYOUT}.")
    files = list_files(root)
    found: dict[str, list[Path]] = defaultdict(list)
    errors: list[tuple[str, str]] = []
    for path in files.audio():
        fields = path.stem.split("-")
        is_speech = path.stem.startswith(_SPEECH)
        if len(fields) != len(_FIELDS) and not is_speech:
            continue
        if problem := _name_problem(fields):
            errors.append((path.relative_to(root).as_posix(), problem))
        elif is_speech:
            found[path.stem].append(path)
    if not found and not errors:
        raise UserError(f"no RAVDESS speech found below {root}. {files.summary(_kind)}. Expected: {_LAYOUT}.")
    clips = separate_copies(found, root)
    used = {*clips.names, *(name for name, _ in errors)}
    unused, notes = files.unused(used, f"expected is a name such as {_EXAMPLE}", _kind, clips.copies)
    return LoaderResult(
        "ravdess",
        f"corpus 'ravdess' at {root}",
        pd.DataFrame([_row(path) for _, path in clips.rows], columns=_COLUMNS),
        CLASSES,
        root,
        errors,
        f"Expected: {_LAYOUT}.",
        default_classes=",".join(SHARED_WITH_CREMA_D),
        notes=(*clips.notes, *notes),
        unused=unused,
    )


def _kind(name: str) -> str:
    """Return the word for what RAVDESS has besides speech, or an empty string."""
    found = re.match(r"(0[123])-(0[12])-", name.rpartition("/")[2])
    if not found:
        return ""
    modality, channel = found.groups()
    return "songs (03-02-…)" if channel == "02" else "videos (01-…, 02-…)" if modality != "03" else ""


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
