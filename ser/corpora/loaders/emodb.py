"""EmoDB: the Berlin Database of Emotional Speech (Burkhardt et al., 2005)."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import find_clips, list_files
from ser.utils.errors import UserError

CLASSES = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")

# Initials of the German words Wut, Langeweile, Ekel, Angst, Freude, neutral, Trauer.
_EMOTIONS = dict(zip("WLEAFNT", CLASSES, strict=True))
_GENDERS = dict.fromkeys(("03", "10", "11", "12", "15"), "male") | dict.fromkeys(
    ("08", "09", "13", "14", "16"), "female"
)
_TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
_TEST = "erkennung.txt"
_RESTORE = "Restore the original file, or remove it to load the corpus without the test."
_LAYOUT = f"wav/03a01Wa.wav (or .flac, …), and next to wav, optionally, {_TEST}"

_Errors = list[tuple[str, str]]


def load_emodb(root: Path) -> LoaderResult:
    """Load the clips of EmoDB from their names, with the results of its listening test; no audio is decoded.

    The clips are the audio files below ``wav``, named ``03a01Wa``: speaker, text, emotion, version. The first edition
    has 535 of them, later editions 816. ``erkennung.txt`` in ``root`` holds the listening test: a line of column names
    (``Nr.``, ``Satz``, ``erkannt``, ``natuerlich``), then one line per judged recording with the percentage of the 20
    listeners who recognised the emotion, and of those who found it natural. It does not record which emotions were
    confused, so there are no votes. All 816 recordings have a line; those of the first edition were all recognised by
    at least 80 %.

    Args:
        root: The folder that holds ``wav``, or the audio itself.

    Returns:
        The rows: utterance id = the file's name without its suffix, speaker = its first two digits, no sessions. With
        the listening test they have ``recognition`` and ``naturalness`` (shares, 0 to 1), and judged recordings
        without a file are counted in ``outside`` as ``judged, without audio``. Data errors are unknown names, different
        files of one clip, and lines of the test that are unreadable, missing, or repeated with other percentages.

    Raises:
        UserError: If there are no clips, or the listening test is not such a table.

    Source: Burkhardt, Paeschke, Rolfes, Sendlmeier and Weiss, "A database of German emotional speech", Interspeech
    2005.
    """
    errors: _Errors = []
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Expected is the folder of EmoDB: {_LAYOUT}.")
    files = list_files(root)
    clips = find_clips(files, "wav" if (root / "wav").is_dir() else "", "EmoDB", _LAYOUT, _name_problem, errors)
    columns = ["utterance_id", "path", "speaker", "gender", "label"]
    judged: dict[str, tuple[float, float]] | None = None
    absent = 0
    if (root / _TEST).exists():
        judged, absent = _judgements(root / _TEST, clips.files, errors)
        columns += ["recognition", "naturalness"]
    rows = [
        (id_, str(path), id_[:2], _GENDERS[id_[:2]], _EMOTIONS[id_[5]], *(judged[id_] if judged else ()))
        for id_, path in clips.rows
        if judged is None or id_ in judged
    ]
    used = {*clips.names, *(name for name, _ in errors), _TEST}
    unused, notes = files.unused(used, f"expected: {_LAYOUT}", copies=clips.copies)
    return LoaderResult(
        "emodb",
        f"corpus 'emodb' at {root}",
        pd.DataFrame(rows, columns=columns),
        CLASSES,
        root,
        errors,
        f"Expected: {_LAYOUT}.",
        outside={"judged, without audio": absent} if absent else {},
        notes=(*clips.notes, *notes),
        unused=unused,
    )


def _name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a clip, or None."""
    if len(name) != 7:
        return f"{name!r} is not speaker, text, emotion and version, such as 03a01Wa"
    fields = {
        "speaker": (name[:2], _GENDERS),
        "text": (name[2:5], _TEXTS),
        "emotion": (name[5], _EMOTIONS),
        "version": (name[6], "abcdefghijklmnopqrstuvwxyz"),
    }
    wrong = [
        f"{field} {code!r} is not one of {', '.join(known)}"
        for field, (code, known) in fields.items()
        if code not in known
    ]
    return "; ".join(wrong) or None


def _judgements(path: Path, clips: Collection[str], errors: _Errors) -> tuple[dict[str, tuple[float, float]], int]:
    """Return recognition and naturalness by utterance id, and the number of judged recordings without a file."""
    lines = [(number, line.split()) for number, line in enumerate(_text(path).splitlines(), start=1) if line.strip()]
    header = [word.casefold().replace("ü", "ue") for word in lines[0][1]] if lines else []
    columns = [header.index(name) for name in ("satz", "erkannt", "natuerlich") if header.count(name) == 1]
    if len(columns) < 3:
        raise UserError(
            f"{path} is not EmoDB's listening test, whose first line names each of Satz, erkannt and natuerlich once. "
            f"{_RESTORE}"
        )
    judged: dict[str, tuple[float, float]] = {}
    seen: dict[str, tuple[int, list[str]]] = {}
    absent = 0
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            errors.append((f"{_TEST}:{number}", f"has {len(cells)} cells, not {len(header)}"))
            continue
        name, *percentages = (cells[column] for column in columns)
        id_ = name.removesuffix(".wav")
        if problem := _name_problem(id_):
            errors.append((f"{_TEST}:{number}", problem))
        elif id_ in seen:
            first, percentages_before = seen[id_]
            if percentages != percentages_before:
                errors.append((f"{_TEST}:{number}", f"has other percentages for {id_} than line {first}"))
        else:
            seen[id_] = number, percentages
            recognition, naturalness = (_share(percentage) for percentage in percentages)
            if recognition is None or naturalness is None:
                errors.append(
                    (id_, f"{_TEST}:{number}: {' and '.join(map(repr, percentages))} are not both percentages")
                )
            elif id_ in clips:
                judged[id_] = recognition, naturalness
            else:
                absent += 1
    if not seen.keys() & set(clips):
        raise UserError(f"{path} has no line for any of the clips. {_RESTORE}")
    errors += [(id_, f"{_TEST} has no line for this clip") for id_ in clips if id_ not in seen]
    return judged, absent


def _text(path: Path) -> str:
    """Return the text of a file in UTF-8 or, as published, in Latin-1."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _share(percentage: str) -> float | None:
    """Parse a percentage such as ``85,00`` into a share, 0.85; return None for anything else."""
    if not re.fullmatch(r"[0-9]{1,3}([.,][0-9]{1,6})?", percentage):
        return None
    share = float(percentage.replace(",", ".")) / 100
    return share if share <= 1 else None
