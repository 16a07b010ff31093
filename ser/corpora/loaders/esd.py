"""ESD: the Emotional Speech Dataset of parallel Mandarin and English sentences (Zhou et al., 2021 and 2022)."""

from __future__ import annotations

import codecs
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import Clips, FolderFiles, list_files, separate_copies
from ser.utils.errors import UserError

CLASSES = ("angry", "happy", "neutral", "sad", "surprise")

_LANGUAGES = {f"{number:04}": "mandarin" if number <= 10 else "english" for number in range(1, 21)}
# As listed in ReadMe.txt of the release.
_FEMALE = frozenset({"0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019"})

_NAME = re.compile(r"([0-9]{4})_[0-9]{6}")
_SUBSETS = frozenset({"train", "evaluation", "test"})
# The words in the transcripts → class; some Mandarin transcripts use Chinese words.
_WORDS = {name.capitalize(): name for name in CLASSES} | {
    "生气": "angry",
    "快乐": "happy",
    "中立": "neutral",
    "伤心": "sad",
    "惊喜": "surprise",
}
_LAYOUT = "0011/Angry/0011_000351.wav, or with train, evaluation or test below the emotion, at any depth"


def load_esd(root: Path, *, language: Literal["english", "mandarin", "both"] = "english") -> LoaderResult:
    """Load ESD from its folders and file names; no audio is decoded.

    Files are in ``SPEAKER/EMOTION``, or in ``train``, ``evaluation`` or ``test`` below that. These three are ignored,
    because this project makes its own folds. The folder of the emotion is the label. Where a transcript such as
    ``0011/0011.txt`` names the emotion of a sentence, it must agree. Transcripts have several encodings and broken
    lines; a line without a sentence or an emotion is skipped. Audio that neither has a name like ``0011_000351`` nor
    is in an emotion's folder of a speaker is counted in ``unused``.

    Speakers 0001 to 0010 speak Mandarin, 0011 to 0020 English. The default is English, as in most work on ESD and in
    most of the other corpora; folds over both would mix speakers of two languages.

    Args:
        root: A folder with ``0011/Angry/0011_000351.wav`` below it.
        language: The language of the utterances to load; the others are counted in ``outside``.

    Returns:
        The rows: utterance id = the file's name without its suffix, speaker ``0011``, genders as listed in the
        release, no sessions, no votes. Data errors are audio with another name or in a wrong folder, unknown
        speakers, different files of one utterance, and transcripts that disagree or are unreadable.

    Raises:
        UserError: If there is nothing of ESD, or nothing in this language, below ``root``.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder. Expected is the folder of ESD: {_LAYOUT}.")
    errors: list[tuple[str, str]] = []
    files = list_files(root)
    found, others = _find_clips(files, language, errors)
    outside = Counter(map(_spoken, others))
    if not found and not errors:
        if outside:
            (spoken,) = outside
            raise UserError(
                f"no utterance in {language} found below {root}, but {outside[spoken]} in {spoken}. "
                f"Pass --corpus-options language={spoken}."
            )
        raise UserError(f"no utterance of ESD found below {root}. {files.summary()}. Expected: {_LAYOUT}.")
    clips = separate_copies(found, root)
    used = {*clips.names, *others, *(name for name, _ in errors)}
    rows = _rows(clips, used, errors)
    unused, notes = files.unused(used, f"expected: {_LAYOUT}", copies=clips.copies)
    return LoaderResult(
        "esd",
        f"corpus 'esd' at {root}",
        pd.DataFrame(rows, columns=["utterance_id", "path", "speaker", "gender", "label"]),
        CLASSES,
        root,
        errors,
        f"Expected: {_LAYOUT}.",
        outside=outside,
        notes=(*clips.notes, *notes),
        unused=unused,
    )


def _find_clips(
    files: FolderFiles, language: str, errors: list[tuple[str, str]]
) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of each utterance in a language, and the names of those in the other language."""
    found: dict[str, list[Path]] = defaultdict(list)
    others = []
    for path in files.audio():
        folder = _emotion_folder(path)
        is_named = _NAME.fullmatch(path.stem) is not None
        if not is_named and not (folder.name.lower() in CLASSES and folder.parent.name in _LANGUAGES):
            continue
        name, spoken = path.relative_to(files.root).as_posix(), _spoken(path.name)
        if is_named and spoken and language not in ("both", spoken) and folder.parent.name == path.stem[:4]:
            others.append(name)
        elif problem := _file_problem(path, folder):
            errors.append((name, problem))
        else:
            found[path.stem].append(path)
    return found, others


def _spoken(name: str) -> str:
    """Return the language of a file by its name; empty if there is no such speaker."""
    return _LANGUAGES.get(name.rpartition("/")[2][:4], "")


def _rows(clips: Clips, used: set[str], errors: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the rows of utterances that agree with their transcripts; transcripts are added to ``used``."""
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in sorted({_emotion_folder(path).parent for _, path in clips.rows}):
        transcript = folder / f"{folder.name}.txt"
        if transcript.is_relative_to(clips.root):
            used.add(transcript.relative_to(clips.root).as_posix())
        _read_transcript(transcript, clips.root, said, errors)
    rows = []
    for id_, path in clips.rows:
        label = _emotion_folder(path).name.lower()
        if (words := said.get(id_)) and label not in words:
            others = ", ".join(f"{word!r} in {place}" for word, place in words.items())
            alone = len(clips.files[id_]) == 1
            name = id_ if alone else path.relative_to(clips.root).as_posix()
            errors.append((name, f"is in folder {label!r}, but is {others}"))
            continue
        rows.append(
            {
                "utterance_id": id_,
                "path": str(path),
                "speaker": id_[:4],
                "gender": "female" if id_[:4] in _FEMALE else "male",
                "label": label,
            }
        )
    return rows


def _emotion_folder(path: Path) -> Path:
    """Return the folder that should name the emotion: the parent, or the one above a subset's folder."""
    return path.parent.parent if path.parent.name.lower() in _SUBSETS else path.parent


def _file_problem(path: Path, folder: Path) -> str | None:
    """Return what is wrong with the name or the folder of a file, or None."""
    matched = _NAME.fullmatch(path.stem)
    if matched is None:
        return "the name is not like 0011_000351"
    speaker = matched[1]
    if speaker not in _LANGUAGES:
        return f"speaker {speaker!r} is not one of 0001 to 0020"
    if folder.name.lower() not in CLASSES:
        return f"is in folder {folder.name!r}, not in one of {', '.join(map(str.capitalize, CLASSES))}"
    if folder.parent.name != speaker:
        return f"is in folder {folder.parent.name!r}, not in that of its speaker"
    return None


def _read_transcript(path: Path, root: Path, said: dict[str, dict[str, str]], errors: list[tuple[str, str]]) -> None:
    """Add the emotions that a transcript names to ``said``: utterance id → emotion → FILE:LINE.

    A line holds an id, the sentence and an emotion, separated by tabs or, in places, by spaces. Encodings are UTF-16,
    GB 2312, Windows-1252 and ASCII. Decoding the last three as GB 18030 preserves ids, separators and emotions.
    """
    place = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        if not path.exists():
            return
        content = path.read_bytes()
    except OSError as error:
        errors.append((place, f"cannot be read: {error.strerror}"))
        return
    # UTF-16 without a byte order mark has a zero byte after the first digit of the first id.
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
