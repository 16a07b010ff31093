"""ESD: the Emotional Speech Dataset of parallel Mandarin and English sentences (Zhou et al., 2021 and 2022)."""

from __future__ import annotations

import codecs
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import audio_below
from ser.utils.errors import UserError

CLASSES = ("angry", "happy", "neutral", "sad", "surprise")

_LANGUAGES = {f"{number:04}": "mandarin" if number <= 10 else "english" for number in range(1, 21)}
# From the ReadMe.txt of the release.
_FEMALE = frozenset({"0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019"})

_NAME = re.compile(r"([0-9]{4})_[0-9]{6}")
_PARTS = frozenset({"train", "evaluation", "test"})
# As the transcripts have them; some of the Mandarin ones use Chinese words.
_WORDS = {name.capitalize(): name for name in CLASSES} | {
    "生气": "angry",
    "快乐": "happy",
    "中立": "neutral",
    "伤心": "sad",
    "惊喜": "surprise",
}
_LAYOUT = "0011/Angry/0011_000351.wav, or with train, evaluation or test below the emotion, at any depth"


def load_esd(root: Path, *, language: Literal["english", "mandarin", "both"] = "english") -> LoaderResult:
    """Reads ESD from its folders and file names; no audio is decoded.

    A file lies in its speaker's folder, therein in the emotion's, and therein perhaps in ``train``, ``evaluation`` or
    ``test``, which are ignored: this study makes its own folds. The emotion's folder is the label. Where a transcript
    such as ``0011/0011.txt`` names the sentence's emotion, it must be the same. Transcripts come in several encodings
    and with broken lines; what names no sentence or no emotion is passed over. Audio that neither has a name like
    ``0011_000351`` nor lies in a speaker's emotion folder is not part of this corpus and is passed over.

    Speakers 0001 to 0010 speak Mandarin, 0011 to 0020 English. The default is English, as in most work on ESD and in
    most corpora here; folds over both would mix speakers of two languages.

    Args:
        root: A folder with ``0011/Angry/0011_000351.wav`` below it.
        language: Whose utterances are taken; the others are counted in ``outside``.

    Returns:
        What was found: utterance id = the file's name without its suffix, speaker ``0011``, the genders that the
        release tells, no sessions, no votes. Faults are audio with another name or in a wrong folder, unknown
        speakers, the same utterance in several files, and transcripts that disagree or cannot be read.

    Raises:
        UserError: There is nothing of ESD, or nothing in this language, below ``root``.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Expected is ESD's: {_LAYOUT}.")
    files: dict[str, list[Path]] = defaultdict(list)
    faults: list[tuple[str, str]] = []
    outside: Counter[str] = Counter()
    for path in audio_below(root):
        folder = _emotion_folder(path)
        is_named = _NAME.fullmatch(path.stem) is not None
        if not is_named and not (folder.name.lower() in CLASSES and folder.parent.name in _LANGUAGES):
            continue
        speaker = path.stem[:4]
        spoken = _LANGUAGES.get(speaker)
        if is_named and spoken is not None and language not in ("both", spoken) and folder.parent.name == speaker:
            outside[spoken] += 1
        elif fault := _fault(path, folder):
            faults.append((path.relative_to(root).as_posix(), fault))
        else:
            files[path.stem].append(path)

    if not files and not faults:
        if outside:
            (spoken,) = outside
            raise UserError(
                f"no utterance in {language} below {root}, but {outside[spoken]} in {spoken}: "
                f"pass --corpus-options language={spoken}."
            )
        raise UserError(f"nothing of ESD below {root}. Expected: {_LAYOUT}.")

    said: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in sorted({_emotion_folder(path).parent for paths in files.values() for path in paths}):
        _read_transcript(folder / f"{folder.name}.txt", root, said, faults)
    rows = []
    for id_, paths in files.items():
        label = _emotion_folder(paths[0]).name.lower()
        if len(paths) > 1:
            places = ", ".join(path.relative_to(root).as_posix() for path in paths)
            faults.append((id_, f"{len(paths)} files are this utterance: {places}"))
        elif (words := said.get(id_)) and label not in words:
            told = ", ".join(f"{word!r} in {place}" for word, place in words.items())
            faults.append((id_, f"lies in a folder {label!r}, but is {told}"))
        else:
            rows.append(
                {
                    "utterance_id": id_,
                    "path": str(paths[0]),
                    "speaker": id_[:4],
                    "gender": "female" if id_[:4] in _FEMALE else "male",
                    "label": label,
                }
            )
    return LoaderResult(
        "esd",
        f"corpus 'esd' at {root}",
        pd.DataFrame(rows, columns=["utterance_id", "path", "speaker", "gender", "label"]),
        CLASSES,
        root,
        faults,
        f"Expected: {_LAYOUT}.",
        outside=outside,
    )


def _emotion_folder(path: Path) -> Path:
    """The folder that should be an emotion's: the file's own, or the one above ``train``, ``evaluation``, ``test``."""
    return path.parent.parent if path.parent.name.lower() in _PARTS else path.parent


def _fault(path: Path, folder: Path) -> str | None:
    """What is wrong with a file's name or place, if anything."""
    matched = _NAME.fullmatch(path.stem)
    if matched is None:
        return "the name is not like 0011_000351"
    speaker = matched[1]
    if speaker not in _LANGUAGES:
        return f"speaker {speaker!r} is not one of 0001 to 0020"
    if folder.name.lower() not in CLASSES:
        return f"lies in a folder {folder.name!r}, not in one of {', '.join(map(str.capitalize, CLASSES))}"
    if folder.parent.name != speaker:
        return f"lies in a folder {folder.parent.name!r}, not in its speaker's"
    return None


def _read_transcript(path: Path, root: Path, said: dict[str, dict[str, str]], faults: list[tuple[str, str]]) -> None:
    """Adds to ``said`` what a transcript calls each utterance: id → emotion → FILE:LINE.

    A line is an id, the sentence and an emotion, with tabs between them, in places spaces. Encodings are UTF-16,
    GB 2312, Windows-1252 and ASCII. Read as GB 18030, the last three keep ids, separators and emotions whole.
    """
    place = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        if not path.exists():
            return
        content = path.read_bytes()
    except OSError as error:
        faults.append((place, f"cannot be read: {error.strerror}"))
        return
    # Without its mark, UTF-16 shows in the zero after the first id's first digit.
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or content[1:2] == b"\0"
    encoding = "utf-16" if is_wide else "utf-8" if _is_utf8(content) else "gb18030"
    for number, line in enumerate(content.decode(encoding, errors="replace").splitlines(), start=1):
        words = line.strip("\ufeff").split()
        if len(words) > 1 and _NAME.fullmatch(words[0]) and words[-1] in _WORDS:
            said[words[0]].setdefault(_WORDS[words[-1]], f"{place}:{number}")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
