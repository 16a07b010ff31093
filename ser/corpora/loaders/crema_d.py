"""CREMA-D: the Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al., 2014)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.names import gender_of
from ser.corpora.source_files import Clips, find_clips, list_files, read_csv_rows
from ser.metrics.agreement import anonymous_annotations
from ser.utils.errors import UserError, listed

CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
"""In the column order of the table of votes, A D F H N S."""

_EMOTIONS = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), CLASSES, strict=True))
_SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
_LEVELS = ("LO", "MD", "HI", "XX")
_ACTORS = frozenset(str(number) for number in range(1001, 1092))

_AUDIO, _MP3 = "AudioWAV", "AudioMP3"
_DEMOGRAPHICS = "VideoDemographics.csv"
_VOTES = "processedResults/tabulatedVotes.csv"
_LETTERS = ("A", "D", "F", "H", "N", "S")
# What was judged → the first digit of a row's id in the table of votes.
_CONDITIONS = {"voice": "1", "face": "2", "both": "3"}
_LAYOUT = f"{_AUDIO}/1001_DFA_ANG_XX.wav (or .flac, …), and next to {_AUDIO}, optionally, {_DEMOGRAPHICS} and {_VOTES}"

_Errors = list[tuple[str, str]]


def load_crema_d(
    root: Path,
    *,
    votes: Literal["voice", "face", "both"] = "voice",
    consensus: Literal["intended", "plurality"] = "intended",
) -> LoaderResult:
    """Load the clips of CREMA-D from their names, with the listeners' votes; no audio is decoded.

    The clips are the audio files below ``AudioWAV``, named ``1001_DFA_ANG_XX``: actor, sentence, intended emotion,
    level. Copies made before October 2022 have ``1040_ITH_SAD_X``, which stands for ``1040_ITH_SAD_XX``. Other
    folders, such as ``AudioMP3``, are counted in ``unused``. ``VideoDemographics.csv`` gives the actors' gender;
    without this file it is unknown. ``processedResults/tabulatedVotes.csv`` has a row of counts for every clip and
    condition; the condition is the first digit of the row's id (1 voice, 2 face, 3 both). Without this file there are
    no votes. A table whose first column is one of ``fileName``, ``A``, ``D``, ``F``, ``H``, ``N`` and ``S`` has no
    row ids and holds the votes on the voices.

    Args:
        root: The repository's folder, which holds ``AudioWAV``. An archive of it without Git LFS has stubs in place
            of audio, which are accepted as clips here and raise when audio is read.
        votes: What the voters were shown: the voice alone, the face alone, or both.
        consensus: What ``label`` is: the emotion that the actor was asked for, or the one with the most votes. With
            the latter, clips with a tied vote are outside the classes and counted as ``tie``.

    Returns:
        The rows: utterance id = the file's name without its suffix, speaker = the actor's number, no sessions. Data
        errors are unknown names, different files of one clip, clips without votes, votes without a clip, rows of
        votes that are unreadable, empty, or repeated with other counts, and actors with two genders.

    Raises:
        UserError: If there are no clips, the requested votes are missing, or a table cannot be read.

    Source: Cao, Cooper, Keutmann, Gur, Nenkova and Verma, IEEE Transactions on Affective Computing 5(4), 2014.
    """
    errors: _Errors = []
    folder = root / _AUDIO
    if not folder.is_dir():
        raise UserError(f"{root} has no folder {_AUDIO}. Expected is the repository of CREMA-D: {_LAYOUT}.")
    files = list_files(root)
    clips = find_clips(files, _AUDIO, "CREMA-D", _LAYOUT, _name_problem, errors, _full_id)
    used = {*clips.names, *(name for name, _ in errors), _DEMOGRAPHICS, _VOTES}
    unused, notes = files.unused(used, f"expected: {_LAYOUT}", _kind, clips.copies)
    genders, about_genders = _genders(root, {id_[:4] for id_ in clips.files}, errors)
    counts = None
    if (root / _VOTES).exists():
        counts = _counts(root, votes, clips.files, errors)
    elif votes != "voice" or consensus != "intended":
        asked = f"votes={votes}" if votes != "voice" else f"consensus={consensus}"
        raise UserError(f"{asked} needs {root / _VOTES}, which is missing. Copy it from the repository of CREMA-D.")

    rows, ties = _rows(clips, genders, counts, consensus)
    return LoaderResult(
        "crema-d",
        f"corpus 'crema-d' at {root}",
        pd.DataFrame(rows, columns=["utterance_id", "path", "speaker", "gender", "label", "votes"]),
        CLASSES,
        root,
        errors,
        f"Expected: {_LAYOUT}.",
        annotations=None if counts is None else _annotations(counts),
        outside={"tie": ties} if ties else {},
        notes=(*clips.notes, *notes, *about_genders),
        unused=unused,
    )


def _rows(
    clips: Clips,
    genders: Mapping[str, str],
    counts: Mapping[str, tuple[int, ...]] | None,
    consensus: str,
) -> tuple[list[tuple[object, ...]], int]:
    """Return the rows of clips without errors, and the number of clips with a tied vote."""
    rows: list[tuple[object, ...]] = []
    ties = 0
    for id_, path in clips.rows:
        if counts is not None and id_ not in counts:
            continue  # listed among the errors
        label, votes = _EMOTIONS[id_[9:12]], None if counts is None else counts[id_]
        if consensus == "plurality" and votes is not None:
            if votes.count(max(votes)) > 1:
                ties += 1
                continue
            label = CLASSES[votes.index(max(votes))]
        rows.append((id_, str(path), id_[:4], genders[id_[:4]], label, votes))
    return rows, ties


def _annotations(counts: Mapping[str, tuple[int, ...]]) -> pd.DataFrame:
    """Return one row per vote, votes of tied clips included; who cast them is not published."""
    votes = np.array(list(counts.values()), dtype=np.int64).reshape(-1, len(CLASSES))
    return anonymous_annotations(list(counts), votes, CLASSES).assign(is_self=False)


def _kind(name: str) -> str:
    """Return the word for the copies of the audio in another folder of the repository, or an empty string."""
    return _MP3 if name.startswith(f"{_MP3}/") else ""


def _full_id(stem: str) -> str:
    return f"{stem}X" if stem.endswith("_X") else stem


def _name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a clip, or None."""
    codes = name.split("_")
    if len(codes) != 4:
        return f"{name!r} is not ACTOR_SENTENCE_EMOTION_LEVEL, such as 1001_DFA_ANG_XX"
    actor, *others = codes
    wrong = [] if actor in _ACTORS else [f"actor {actor!r} is not one of 1001 to 1091"]
    fields = {"sentence": _SENTENCES, "emotion": _EMOTIONS, "level": _LEVELS}
    for code, (field, known) in zip(others, fields.items(), strict=True):
        if code not in known:
            wrong.append(f"{field} {code!r} is not one of {', '.join(known)}")
    return "; ".join(wrong) or None


def _genders(root: Path, actors: Collection[str], errors: _Errors) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the gender of each actor, and a note on actors without one, unless there is no table of actors."""
    genders = dict.fromkeys(actors, "unknown")
    if not (root / _DEMOGRAPHICS).exists():
        return genders, ()
    sexes: dict[str, tuple[int, str]] = {}
    for number, cells in read_csv_rows(root / _DEMOGRAPHICS, ("ActorID", "Sex")):
        actor, sex = cells.get("ActorID", ""), cells.get("Sex", "")
        if actor not in _ACTORS:
            errors.append((f"{_DEMOGRAPHICS}:{number}", f"ActorID {actor!r} is not one of 1001 to 1091"))
        elif actor not in sexes:
            sexes[actor] = number, sex
        elif gender_of(sex) != gender_of(sexes[actor][1]):
            errors.append((f"{_DEMOGRAPHICS}:{number}", f"actor {actor} has another Sex in line {sexes[actor][0]}"))
    genders |= {actor: gender_of(sex) for actor, (_, sex) in sexes.items()}
    unknown = [
        f"{actor} (Sex {sexes[actor][1]!r})" if actor in sexes else f"{actor} (no row)"
        for actor in sorted(actors)
        if genders[actor] == "unknown"
    ]
    return genders, (f"{_DEMOGRAPHICS}: gender unknown of actors {listed(unknown)}",) if unknown else ()


def _counts(root: Path, votes: str, clips: Collection[str], errors: _Errors) -> dict[str, tuple[int, ...]]:
    """Return the votes per class of each utterance; clips without votes are data errors."""
    table = list(read_csv_rows(root / _VOTES, ("fileName", *_LETTERS)))
    if not table:
        raise UserError(f"{root / _VOTES} has no rows.")
    named = next(iter(table[0][1])) not in {"fileName", *_LETTERS}
    if not named and votes != "voice":
        raise UserError(
            f"votes={votes} needs row ids in the first column of {root / _VOTES}, which has none. "
            "Use the file from the repository of CREMA-D, which has them."
        )
    counts: dict[str, tuple[int, ...]] = {}
    seen: dict[str, tuple[int, list[str]]] = {}
    read = 0
    for number, cells in table:
        place = f"{_VOTES}:{number}"
        if named:
            row_id = next(iter(cells.values()))
            if not re.fullmatch("[123][0-9]{5}", row_id):
                errors.append((place, f"row id {row_id!r} is not 1, 2 or 3 and five digits; or too many cells"))
                continue
            if row_id[0] != _CONDITIONS[votes]:
                continue
        read += 1
        name = cells.get("fileName", "")
        if problem := _name_problem(name):
            errors.append((place, problem))
            continue
        stated = [cells.get(letter, "") for letter in _LETTERS]
        if name in seen:
            first, before = seen[name]
            if stated != before:
                errors.append((place, f"has other votes for {name} than line {first}"))
            continue
        seen[name] = number, stated
        if name not in clips:
            errors.append((name, f"{place} has votes for this clip, but {_AUDIO}/{name}.wav is missing"))
        elif problem := _count_problem(cells, named):
            errors.append((name, f"{place}: {problem}"))
        else:
            counts[name] = tuple(int(cells[letter]) for letter in _LETTERS)
    if read and not seen.keys() & set(clips):
        raise UserError(
            f"{root / _VOTES} has votes ({votes}) for none of the {len(clips)} clips. Restore the original file, or "
            "remove it to load the clips without votes."
        )
    if not read:
        raise UserError(f"{root / _VOTES} has no row of condition {votes!r} (ids {_CONDITIONS[votes]}00001, …).")
    errors += [(id_, f"{_VOTES} has no row for this clip ({votes})") for id_ in clips if id_ not in seen]
    return counts


def _count_problem(cells: Mapping[str, str], named: bool) -> str | None:
    """Return what is wrong with the counts of a row, or None."""
    if not named and "" in cells:
        return "too many cells"
    wrong = [
        f"{letter} is {cells[letter]!r}, not a count" if letter in cells else f"{letter} is missing"
        for letter in _LETTERS
        if not re.fullmatch("[0-9]{1,6}", cells.get(letter, ""))
    ]
    if wrong:
        return "; ".join(wrong)
    total = sum(int(cells[letter]) for letter in _LETTERS)
    if not total:
        return "no votes"
    if (stated := cells.get("numResponses")) not in (None, str(total)):
        return f"the counts add up to {total}, but numResponses is {stated!r}"
    return None
