"""EmoDB: the Berlin Database of Emotional Speech (Burkhardt et al., 2005)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import audio_below, copies
from ser.utils.errors import UserError

CLASSES = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")

# Of the German words Wut, Langeweile, Ekel, Angst, Freude, neutral, Trauer.
_EMOTIONS = dict(zip("WLEAFNT", CLASSES, strict=True))
_GENDERS = dict.fromkeys(("03", "10", "11", "12", "15"), "male") | dict.fromkeys(
    ("08", "09", "13", "14", "16"), "female"
)
_TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
_TEST = "erkennung.txt"
_LAYOUT = f"wav/03a01Wa.wav (or .flac, …), and beside wav, if there, {_TEST}"

_Faults = list[tuple[str, str]]


def load_emodb(root: Path) -> LoaderResult:
    """Reads EmoDB's clips from their names, with the results of its listening test; no audio is decoded.

    The clips are the audio files below ``wav``, named ``03a01Wa``: speaker, text, emotion, version; 535 as first
    published, 816 in later editions. ``erkennung.txt`` in ``root`` is the listening test: a line of column names
    (``Nr.``, ``Satz``, ``erkannt``, ``natuerlich``), then a line for each recording judged, with the percentage of
    the 20 listeners who recognised the emotion and of those who found it natural. It tells nothing of who confused
    what, so there are no votes. All 816 recordings have a line; those of the first edition were all recognised by at
    least 80 %.

    Args:
        root: The folder that holds ``wav``, or else the audio itself.

    Returns:
        What was found: utterance id = the file's name without its suffix, speaker = its first two digits, no sessions;
        with the listening test, ``recognition`` and ``naturalness`` (shares, 0 to 1), and judged recordings that are
        not there counted outside as ``judged, without audio``. Faults are names that do not exist, clips that are in
        several files, and lines of the test that cannot be read, are missing or are repeated.

    Raises:
        UserError: There are no clips, or the listening test is no such table.

    Source: Burkhardt, Paeschke, Rolfes, Sendlmeier and Weiss, "A database of German emotional speech", Interspeech
    2005.
    """
    faults: _Faults = []
    clips = _clips(root, faults)
    columns = ["utterance_id", "path", "speaker", "gender", "label"]
    judged: dict[str, tuple[float, float]] | None = None
    absent = 0
    if (root / _TEST).exists():
        judged, absent = _judgements(root / _TEST, clips, faults)
        columns += ["recognition", "naturalness"]
    rows = [
        (id_, str(paths[0]), id_[:2], _GENDERS[id_[:2]], _EMOTIONS[id_[5]], *(judged[id_] if judged else ()))
        for id_, paths in clips.items()
        if len(paths) == 1 and (judged is None or id_ in judged)
    ]
    return LoaderResult(
        "emodb",
        f"corpus 'emodb' at {root}",
        pd.DataFrame(rows, columns=columns),
        CLASSES,
        root,
        faults,
        f"Expected: {_LAYOUT}.",
        outside={"judged, without audio": absent} if absent else {},
    )


def _clips(root: Path, faults: _Faults) -> dict[str, list[Path]]:
    """Utterance id → its files, more than one of which is a fault."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Expected is EmoDB's: {_LAYOUT}.")
    folder = root / "wav" if (root / "wav").is_dir() else root
    clips: dict[str, list[Path]] = defaultdict(list)
    for path in audio_below(folder):
        if fault := _fault(path.stem):
            faults.append((path.relative_to(root).as_posix(), fault))
        else:
            clips[path.stem].append(path)
    if not clips:
        wrong = f", but {len(faults)} of other names, such as {faults[0][0]!r}" if faults else ""
        raise UserError(f"no clips of EmoDB below {folder}{wrong}. Expected: {_LAYOUT}.")
    faults += copies(clips, root, "clip")
    return clips


def _fault(name: str) -> str | None:
    """What is wrong with a clip's name, if anything."""
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


def _judgements(path: Path, clips: Collection[str], faults: _Faults) -> tuple[dict[str, tuple[float, float]], int]:
    """Utterance id → recognition and naturalness, and how many recordings judged are not there."""
    lines = [(number, line.split()) for number, line in enumerate(_text(path).splitlines(), start=1) if line.strip()]
    header = [word.casefold().replace("ü", "ue") for word in lines[0][1]] if lines else []
    columns = [header.index(name) for name in ("satz", "erkannt", "natuerlich") if header.count(name) == 1]
    if len(columns) < 3:
        raise UserError(
            f"{path} is not EmoDB's listening test: the first line does not name Satz, erkannt and natuerlich once. "
            "Put the original there, or take the file away to do without."
        )
    judged: dict[str, tuple[float, float]] = {}
    seen: dict[str, int] = {}
    absent = 0
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            faults.append((f"{_TEST}:{number}", f"{len(cells)} cells, not {len(header)}"))
            continue
        name, *percentages = (cells[column] for column in columns)
        id_ = name.removesuffix(".wav")
        if fault := _fault(id_):
            faults.append((f"{_TEST}:{number}", fault))
        elif id_ in seen:
            faults.append((id_, f"{_TEST}:{number}: this recording is in line {seen[id_]} already"))
            judged.pop(id_, None)
        else:
            seen[id_] = number
            recognition, naturalness = (_share(percentage) for percentage in percentages)
            if recognition is None or naturalness is None:
                faults.append(
                    (id_, f"{_TEST}:{number}: {' and '.join(map(repr, percentages))} are not both percentages")
                )
            elif id_ in clips:
                judged[id_] = recognition, naturalness
            else:
                absent += 1
    faults += [(id_, f"{_TEST} has no line for this clip") for id_ in clips if id_ not in seen]
    return judged, absent


def _text(path: Path) -> str:
    """The file in Latin-1, as published, or in UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _share(percentage: str) -> float | None:
    """``85,00`` → .85; None for what is no percentage."""
    if not re.fullmatch(r"[0-9]{1,3}([.,][0-9]{1,6})?", percentage):
        return None
    share = float(percentage.replace(",", ".")) / 100
    return share if share <= 1 else None
