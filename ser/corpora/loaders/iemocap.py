"""IEMOCAP: the Interactive Emotional Dyadic Motion Capture database (Busso et al., 2008).

Source: Busso, Bulut, Lee, Kazemzadeh, Mower, Kim, Chang, Lee and Narayanan, "IEMOCAP: interactive emotional dyadic
motion capture database", Language Resources and Evaluation 42(4), 2008.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ser.corpora.corpus import ANNOTATION_COLUMNS, MAX_SECONDS, RATING_COLUMNS, count_votes
from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import list_files
from ser.utils.errors import UserError

CLASSES = ("ang", "exc", "fru", "hap", "neu", "sad")
CLASSES_4 = ("ang", "hap", "neu", "sad")
"""Classes of ``iemocap-4``, where exc is merged into hap."""

CATEGORIES = {
    "anger": "ang",
    "disgust": "dis",
    "excited": "exc",
    "fear": "fea",
    "frustration": "fru",
    "happiness": "hap",
    "neutral": "neu",
    "neutral state": "neu",
    "other": "oth",
    "sadness": "sad",
    "surprise": "sur",
}
"""An evaluator's word, in lower case → the code used for the consensus."""

NO_AGREEMENT = "xxx"
_CODES = {*CATEGORIES.values(), NO_AGREEMENT}

_RELEASE = "IEMOCAP_full_release"
_EVALUATIONS = "dialog/EmoEvaluation"
_LAYOUT = (
    f"{_RELEASE}/SessionN/{_EVALUATIONS}/SesNNF_impro01.txt and "
    f"{_RELEASE}/SessionN/sentences/wav/SesNNF_impro01/SesNNF_impro01_F000.wav, with N from 1 to 5"
)

_SESSION = re.compile(r"Session([1-5])")
_DIALOG = re.compile(r"Ses0([1-5])[FM]_(?:impro[0-9]{2}|script[0-9]{2}_[0-9])[a-z]?")
# Transcripts also have turns such as MXX0, so a label of such a turn is accepted.
_TURN = re.compile(r"([FM])[0-9X]{2}[0-9]")
_UTTERANCE = re.compile(r"Ses0[1-5][FM]_\w{1,30}")
_TITLE = "%"
_HEADER = re.compile(r"\[([^\]]*)\]\s+(\S+)\s+(\S+)\s+\[([^\]]*)\]")
_TIMES = re.compile(r"([0-9]+(?:\.[0-9]*)?)\s*-\s*([0-9]+(?:\.[0-9]*)?)")
# The scale is 1 to 5, but the files have means a little outside of it, so only the format is checked.
_RATING = r"[0-9](?:\.[0-9]*)?"
_MEANS = re.compile(rf"({_RATING}|nan)\s*,\s*({_RATING}|nan)\s*,\s*({_RATING}|nan)", re.IGNORECASE)
_EVALUATOR = re.compile(r"([AC])-([EFM][0-9]+):([^(]*)\((.*)\)")
_RATINGS = re.compile(rf"val ?({_RATING})? ?; ?act ?({_RATING})? ?; ?dom ?({_RATING})? ?;?", re.IGNORECASE)
_EXAMPLES = "'C-E2: Neutral; ()' or 'A-E3: val 3; act 2; dom 2; ()'"
_Ratings = tuple[float, float, float]  # valence, activation, dominance


def load_iemocap(root: Path) -> LoaderResult:
    """Load the six common classes of IEMOCAP, with every evaluator's votes; no audio is decoded.

    Only ``SessionN/dialog/EmoEvaluation/*.txt`` is read, neither its subfolders nor hidden files. An evaluator who
    names several categories votes for each of them; the actors' judgements of themselves are not votes. Utterances
    whose consensus is another category, or ``xxx`` (none), are counted in ``outside``. Sessions may be missing.

    Args:
        root: The folder ``IEMOCAP_full_release``, or its parent.

    Returns:
        The rows. There is one file per sentence, so ``start`` and ``end`` are empty; ``dialog_start`` and
        ``dialog_end`` are the times within the dialog. ``valence``, ``activation`` and ``dominance`` are the
        evaluators' means. The speaker is the session with the letter of the turn: ``Ses01F_impro01_M003`` is by
        ``Ses01M``. A data error in the block of an utterance is named by file and line,
        ``Session1/dialog/EmoEvaluation/Ses01F_impro01.txt:12``.

    Raises:
        UserError: If there is no session at ``root``.
    """
    return _load("iemocap", root, CLASSES, {})


def load_iemocap_4(root: Path) -> LoaderResult:
    """Load four classes of IEMOCAP, ang, hap, neu and sad, where hap includes exc.

    Classes are merged before votes are counted: an evaluator who names happiness and excitement has one vote for hap.

    Args:
        root: As for ``load_iemocap``.

    Returns:
        As for ``load_iemocap``; ``outside`` also counts fru.

    Raises:
        UserError: If there is no session at ``root``.
    """
    return _load("iemocap-4", root, CLASSES_4, {"exc": "hap"})


@dataclass
class _Block:
    """Content of the block of one utterance in a dialog's file."""

    line: int
    utterance: str
    consensus: str = ""
    times: tuple[float, float] = (0.0, 0.0)
    means: _Ratings = (0.0, 0.0, 0.0)
    categories: list[tuple[str, str]] = field(default_factory=list)  # (evaluator, code)
    ratings: list[tuple[str, _Ratings]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    evaluations: Counter[str] = field(default_factory=Counter)  # "C" or "A" → lines of outside evaluators
    is_valid: bool = True


def _load(name: str, root: Path, classes: tuple[str, ...], merged: dict[str, str]) -> LoaderResult:
    release = _release(root)
    errors: list[tuple[str, str]] = []
    rows: list[dict[str, Any]] = []
    annotations: list[tuple[str, str, str, bool]] = []
    ratings: list[tuple[str, str, bool, float, float, float]] = []
    outside: Counter[str] = Counter()
    files = list_files(release)
    used: set[str] = set()
    for path in _dialogs(release, errors):
        where = path.relative_to(release).as_posix()
        blocks = _blocks(path, where, errors)
        used |= {where, *(files.audio_of(_start(block.utterance)) for block in blocks)}
        for block in blocks:
            if not block.is_valid:
                continue
            id_ = block.utterance
            said = dict.fromkeys((who, merged.get(code, code)) for who, code in block.categories)
            annotations += [(id_, who, code, who[0] != "E") for who, code in said]
            ratings += [(id_, who, who[0] != "E", *values) for who, values in block.ratings]
            label = merged.get(block.consensus, block.consensus)
            if label in classes:
                rows.append(_row(block, label, f"{release}/{files.audio_of(_start(id_))}"))
            else:
                outside[label] += 1
    said_by = pd.DataFrame(annotations, columns=list(ANNOTATION_COLUMNS))
    counts = zip(*count_votes(said_by, [row["utterance_id"] for row in rows], classes), strict=True)
    for row, (votes, other_votes) in zip(rows, counts, strict=True):
        row |= {"votes": votes, "other_votes": other_votes}
    table = pd.DataFrame(rows, columns=None if rows else ["utterance_id", "speaker", "label"])
    unused, notes = files.unused(used, f"no file in {_EVALUATIONS} names it", _kind)
    return LoaderResult(
        name,
        f"corpus {name!r} at {release}",
        table,
        classes,
        release,
        errors,
        f"Expected: {_LAYOUT}.",
        annotations=said_by,
        ratings=pd.DataFrame(ratings, columns=list(RATING_COLUMNS)),
        outside=dict(sorted(outside.items())),
        notes=notes,
        unused=unused,
    )


def _release(root: Path) -> Path:
    try:
        for folder in (root, root / _RELEASE):
            if any((folder / f"Session{number}").is_dir() for number in range(1, 6)):
                return folder
    except OSError as error:
        raise UserError(f"{root} cannot be read: {error.strerror}.") from error
    raise UserError(f"no session of IEMOCAP found in {root}. Expected: {_LAYOUT}.")


def _dialogs(release: Path, errors: list[tuple[str, str]]) -> Iterator[Path]:
    """Yield the dialogs' files, sorted; add data errors of folders and file names to ``errors``."""
    for session in sorted(release.glob("Session*")):
        if not session.is_dir():
            continue
        if not (number := _SESSION.fullmatch(session.name)):
            errors.append((session.name, "is not one of the folders Session1 to Session5"))
            continue
        folder = session / _EVALUATIONS
        try:
            paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        except OSError as error:
            errors.append((session.name, f"the folder {_EVALUATIONS} cannot be read: {error.strerror}"))
            continue
        # The subfolders hold the files of each evaluator; the dialogs' files repeat their content.
        files = [path for path in paths if path.suffix == ".txt" or not path.is_dir()]
        if not files:
            errors.append((f"{session.name}/{_EVALUATIONS}", "has no file of a dialog"))
        for path in files:
            dialog = _DIALOG.fullmatch(path.stem)
            where = path.relative_to(release).as_posix()
            if not dialog or path.suffix != ".txt":
                errors.append(
                    (where, "is not named like a dialog, such as Ses01F_impro01.txt or Ses01M_script01_1.txt")
                )
            elif dialog[1] != number[1]:
                errors.append((where, f"is a dialog of session {dialog[1]}, but in the folder of session {number[1]}"))
            else:
                yield path


def _blocks(path: Path, where: str, errors: list[tuple[str, str]]) -> list[_Block]:
    """Return the blocks of a dialog's file; add what is wrong with those that are not valid to ``errors``."""
    try:
        content = path.read_bytes()
    except OSError as error:
        errors.append((where, f"cannot be read: {error.strerror}"))
        return []
    if b"\0" in content:
        errors.append((where, "is not text: it has NUL bytes"))
        return []
    blocks: list[_Block] = []
    found: list[tuple[int, str]] = []  # (line, what is wrong)
    block: _Block | None = None
    stray = False  # within lines below no header; only the first of them is an error
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        text = line.decode(errors="replace").strip()
        if not text or (not blocks and text.startswith(_TITLE)):
            block, stray = None, False
            continue
        if text.startswith("["):
            name = _UTTERANCE.search(text)
            blocks.append(block := _Block(number, name[0] if name else "?"))
        elif block is None:
            if not stray:
                found.append((number, f"{_quoted(text)} is not below a header line"))
            stray = True
            continue
        try:
            _check_utf8(line)
            if block.line == number:
                _parse_header(text, path.stem, block)
            else:
                _parse_evaluation(text, block)
        except ValueError as error:
            found.append((number, f"utterance {block.utterance}: {error}"))
            block.is_valid = False
    first: dict[str, int] = {}
    for block in blocks:
        if block.is_valid and (problem := _block_problem(block, first)):
            found.append((block.line, f"utterance {block.utterance}: {problem}"))
            block.is_valid = False
        first.setdefault(block.utterance, block.line)
    if not blocks and not found:
        errors.append((where, "has no utterance. Is the file complete?"))
    errors += [(f"{where}:{line}", problem) for line, problem in sorted(found)]
    return blocks


def _check_utf8(line: bytes) -> None:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} of the line is not UTF-8 text") from error


def _parse_header(text: str, dialog: str, block: _Block) -> None:
    """Parse ``[START - END] TURN CONSENSUS [V, A, D]``; raise ValueError that says what is wrong."""
    if not (header := _HEADER.fullmatch(text)):
        raise ValueError(f"{_quoted(text)} is not a header line, '[START - END] TURN EMOTION [V, A, D]'")
    times, name, consensus, means = header.groups()
    prefix, _, turn = name.rpartition("_")
    if prefix != dialog or not _TURN.fullmatch(turn):
        raise ValueError(f"{_quoted(name)} is not named like a turn of {dialog}, such as {dialog}_F000")
    block.utterance = name
    block.consensus = consensus.lower()
    if block.consensus not in _CODES:
        raise ValueError(f"the consensus {_quoted(consensus)} is not one of {', '.join(sorted(_CODES))}")
    if not (seconds := _TIMES.fullmatch(times.strip())):
        raise ValueError(f"the times {_quoted(times)} are not START - END in seconds")
    begin, end = map(float, seconds.groups())
    if not begin < end <= MAX_SECONDS:
        raise ValueError(f"the times {_quoted(times)} are empty, reversed or beyond {MAX_SECONDS:g} s")
    if not (values := _MEANS.fullmatch(means.strip())):
        raise ValueError(f"the means {_quoted(means)} are not three numbers, valence, activation and dominance")
    block.times = begin, end
    block.means = _ratings(values)


def _parse_evaluation(text: str, block: _Block) -> None:
    """Parse ``C-E2: Neutral; (comment)`` or ``A-E3: val 3; act 2; dom 2; (comment)``; raise ValueError if wrong."""
    if not (line := _EVALUATOR.fullmatch(text)):
        raise ValueError(f"{_quoted(text)} is not an evaluator's line, such as {_EXAMPLES}")
    kind, who, said, comment = line.groups()
    if kind == "C":
        words = [word for word in (" ".join(word.split()) for word in said.split(";")) if word]
        if unknown := [word for word in words if word.lower() not in CATEGORIES]:
            raise ValueError(f"C-{who} names {', '.join(map(_quoted, unknown))}, not one of {', '.join(CATEGORIES)}")
        block.categories += [(who, CATEGORIES[word.lower()]) for word in words]
    else:
        if not (values := _RATINGS.fullmatch(" ".join(said.split()))):
            raise ValueError(f"A-{who} rates {_quoted(said.strip())}, not 'val 3; act 2; dom 2;'")
        block.ratings.append((who, _ratings(values)))
    if who[0] == "E":
        block.evaluations[kind] += 1
    if comment.strip():
        block.comments.append(f"{kind}-{who}: ({comment.strip()})")


def _ratings(match: re.Match[str]) -> _Ratings:
    valence, activation, dominance = (float(value or "nan") for value in match.groups())
    return valence, activation, dominance


def _block_problem(block: _Block, first: dict[str, int]) -> str | None:
    """Return what is wrong with a block as a whole, or None."""
    if block.utterance in first:
        return f"is already at line {first[block.utterance]}"
    # Categories come before dimensions, so a file that was cut off lacks the latter.
    for kind, lines in (("C", "names a category"), ("A", "rates the dimensions")):
        if not block.evaluations[kind]:
            return f"no outside evaluator ({kind}-E…) {lines}. Is the block complete?"
    if block.consensus in CLASSES and not any(
        code == block.consensus for who, code in block.categories if who[0] == "E"
    ):
        return f"the consensus is {block.consensus}, which no outside evaluator names"
    return None


def _start(utterance: str) -> str:
    """Return the name of an utterance's audio file up to its suffix."""
    dialog = utterance.rpartition("_")[0]
    return f"Session{dialog[len('Ses0') : len('Ses01')]}/sentences/wav/{dialog}/{utterance}"


def _kind(name: str) -> str:
    """Return the word for recordings of whole dialogs, or an empty string."""
    return "whole dialogs" if re.match(r"Session[1-5]/dialog/wav/", name) else ""


def _row(block: _Block, label: str, path: str) -> dict[str, Any]:
    dialog, _, turn = block.utterance.rpartition("_")
    session = dialog[: len("Ses01")]
    begin, end = block.times
    valence, activation, dominance = block.means
    return {
        "utterance_id": block.utterance,
        "path": path,
        "speaker": session + turn[0],
        "gender": "female" if turn[0] == "F" else "male",
        "session": session,
        "label": label,
        "valence": valence,
        "activation": activation,
        "dominance": dominance,
        "dialog_start": begin,
        "dialog_end": end,
        "comments": "; ".join(block.comments),
    }


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
