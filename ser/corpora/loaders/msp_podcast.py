"""MSP-Podcast: segments of podcasts, judged by crowd workers (Lotfian and Busso, 2019; Busso et al., 2025)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd

from ser.corpora.corpus import count_votes
from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import csv_rows, read_text
from ser.utils.errors import UserError

_CODES = {
    "A": "anger",
    "C": "contempt",
    "D": "disgust",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "S": "sadness",
    "U": "surprise",
}
CLASSES = tuple(_CODES.values())
"""The eight primary emotions, in the order of their codes."""

_OTHER = "other"
_OUTSIDE = {"O": _OTHER, "X": "no agreement"}
# Workers chose adjectives where the consensus has nouns.
_PRIMARY = {name: name for name in CLASSES} | {"angry": "anger", "happy": "happiness", "sad": "sadness"}
_GENDERS = {"female": "female", "male": "male", "unknown": "unknown", "": "unknown"}
_DIMENSIONS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
_LOWEST, _HIGHEST = 1, 7

_COLUMNS = ("FileName", "EmoClass", *_DIMENSIONS.values(), "SpkrID", "Gender", "Split_Set")
_FILE_PREFIX = "MSP-PODCAST_"
_FILE = re.compile(rf"({_FILE_PREFIX}([0-9A-Za-z]+)_[0-9A-Za-z_]+)\.wav")
_WORKER = "WORKER"
# What a worker wrote may hold semicolons itself, so the ratings are found from the end.
_JUDGEMENT = re.compile(rf"({_WORKER}[^;]*);(.*);\s*A:([^;]*);\s*V:([^;]*);\s*D:([^;]*);?", re.DOTALL)
_RUN_ON = "holds further lines; is a quotation mark or a line's end missing?"

# Folders and files as the releases named them, in lower case; the first that is there is taken.
_LABEL_FOLDERS = ("labels", "label")
_AUDIO_FOLDERS = ("audios", "audio")
_CONSENSUS = ("labels_consensus.csv", "labels_concensus.csv")
_DETAILED = ("labels_detailed.csv", "labels.txt")
_LAYOUT = "Audios/MSP-PODCAST_0001_0008.wav, Labels/labels_consensus.csv and Labels/labels_detailed.csv"


def load_msp_podcast(root: Path) -> LoaderResult:
    """Reads MSP-Podcast's label files, as releases 1.6 to 2.0 have them; no audio is decoded.

    The utterances are those of ``Labels/labels_consensus.csv`` (up to release 1.9 ``labels_concensus.csv``). The label
    is the consensus on the primary emotion. Where the workers did not agree (X) or agreed on something else (O), the
    utterance is in none of the classes and is counted in ``outside``; so is, as ``withheld``, an utterance of Test3
    without a label, for the releases keep that set's labels back. ``Split_Set`` is ignored otherwise: this study
    makes its own folds.

    Votes are the workers' primary emotions, from ``labels_detailed.csv`` or, without it, ``labels.txt``; without
    either there are none. ``Other-…``, in a worker's own words, is a vote for another category. Secondary emotions
    are not votes. A few workers judged an utterance twice: they vote for each different emotion that they named.

    Where the speaker is unknown, the podcast stands in: ``unknown-0001`` is whoever is unknown in podcast 0001, so
    that a split by speaker keeps them together. One of them may still be somebody who is named elsewhere.

    Args:
        root: A folder with ``Audios`` and ``Labels`` in it.

    Returns:
        What was found: utterance id = the file's name without ``.wav``, speaker = ``SpkrID``, no sessions;
        activation, valence and dominance from 1 to 7, the consensus in the rows and the workers' own in ``ratings``.
        Faults are names of files that are not the corpus's or appear twice, unknown codes, blank speakers, numbers
        that are none or off the scale, judgements of files that the consensus does not list, and utterances that no
        worker gave one of the classes.

    Raises:
        UserError: A folder or the consensus is missing, or a file of labels cannot be read or lacks columns.
    """
    entries = _entries(root)
    labels, audio = _first(entries, _LABEL_FOLDERS), _first(entries, _AUDIO_FOLDERS)
    if labels is None or audio is None:
        missing = " and no folder ".join(name for name, path in (("Labels", labels), ("Audios", audio)) if path is None)
        raise UserError(f"no folder {missing} in {root}. Expected is MSP-Podcast's: {_LAYOUT}.")
    files = _entries(labels)
    consensus, detailed = _first(files, _CONSENSUS), _first(files, _DETAILED)
    if consensus is None:
        raise UserError(f"no {_CONSENSUS[0]} in {labels}. Expected is MSP-Podcast's: {_LAYOUT}.")

    faults: list[tuple[str, str]] = []
    known, rows, outside = _read_consensus(consensus, consensus.relative_to(root).as_posix(), audio, faults)
    if not known and not faults:
        raise UserError(f"{consensus} names no utterance.")
    table = pd.DataFrame(rows, columns=["utterance_id", "path", "speaker", "gender", "label", *_DIMENSIONS])
    annotations = ratings = None
    if detailed is not None:
        judgements = _Judgements(known, detailed.relative_to(root).as_posix(), faults)
        if detailed.suffix.lower() == ".csv":
            judgements.read_csv(detailed)
        else:
            judgements.read_text(detailed)
        annotations, ratings = judgements.annotations, judgements.ratings
        if rows:
            votes, others = count_votes(annotations, list(table["utterance_id"]), CLASSES)
            table = table.assign(votes=pd.Series(votes, dtype=object), other_votes=others)
            unheard = table["votes"].isna()
            faults += [(id_, "no worker gave it one of the classes") for id_ in table["utterance_id"][unheard]]
            table = table[~unheard]
    return LoaderResult(
        "msp-podcast",
        f"corpus 'msp-podcast' at {root}",
        table,
        CLASSES,
        root,
        faults,
        f"Expected: {_LAYOUT}.",
        annotations=annotations,
        ratings=ratings,
        outside=outside,
    )


def _entries(folder: Path) -> dict[str, Path]:
    """What lies in a folder, by name in lower case."""
    try:
        return {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True)}
    except OSError as error:
        message = f"folder {str(folder)!r} cannot be read: {error.strerror}. Expected is MSP-Podcast's: {_LAYOUT}."
        raise UserError(message) from error


def _first(entries: Mapping[str, Path], names: Iterable[str]) -> Path | None:
    return next((entries[name] for name in names if name in entries), None)


def _read_consensus(
    path: Path, place: str, audio: Path, faults: list[tuple[str, str]]
) -> tuple[dict[str, str], list[dict[str, object]], Counter[str]]:
    """The utterances' ids by file name, the rows of those in a class, and how many are in none."""
    known: dict[str, str] = {}
    rows: list[dict[str, object]] = []
    outside: Counter[str] = Counter()
    for number, cells in csv_rows(path, _COLUMNS):
        name = cells.get("FileName", "")
        matched = _FILE.fullmatch(name)
        if matched is None:
            faults.append((f"{place}:{number}", f"FileName {name!r} is not like MSP-PODCAST_0001_0008.wav"))
            continue
        id_, podcast = matched.groups()
        if name in known:
            faults.append((id_, f"appears again in {place}, line {number}"))
            continue
        known[name] = id_
        if fault := _shape(cells, _COLUMNS):
            faults.append((f"{place}:{number}", fault))
            continue
        if cells["EmoClass"] in _OUTSIDE:
            outside[_OUTSIDE[cells["EmoClass"]]] += 1
        elif not cells["EmoClass"] and cells["Split_Set"].lower() == "test3":
            outside["withheld"] += 1
        elif wrong := _row_faults(cells):
            faults += [(id_, fault) for fault in wrong]
        else:
            speaker = cells["SpkrID"]
            rows.append(
                {
                    "utterance_id": id_,
                    "path": f"{audio}/{name}",
                    "speaker": f"unknown-{podcast}" if speaker.lower() == "unknown" else speaker,
                    "gender": _GENDERS[cells["Gender"].lower()],
                    "label": _CODES[cells["EmoClass"]],
                    **{dimension: _rating(cells[column]) for dimension, column in _DIMENSIONS.items()},
                }
            )
    return known, rows, outside


def _row_faults(cells: Mapping[str, str]) -> list[str]:
    """What is wrong with an utterance's line of the consensus."""
    faults = []
    if (code := cells["EmoClass"]) not in _CODES:
        faults.append(f"EmoClass {code!r} is not one of {', '.join(sorted(_CODES | _OUTSIDE))}")
    if not cells["SpkrID"]:
        faults.append("SpkrID is blank")
    if (gender := cells["Gender"]).lower() not in _GENDERS:
        faults.append(f"Gender {gender!r} is not one of Female, Male, Unknown")
    return faults + _rating_faults(_DIMENSIONS.values(), (cells[column] for column in _DIMENSIONS.values()))


def _shape(cells: Mapping[str, str], columns: Iterable[str]) -> str | None:
    """What is wrong with a line as such: further lines within a cell, too many cells, or too few."""
    if any(_FILE_PREFIX in cell for column, cell in cells.items() if column != "FileName"):
        return _RUN_ON
    if "" in cells:
        return "has too many cells"
    missing = [column for column in columns if column not in cells]
    return f"has too few cells: no {', '.join(missing)}" if missing else None


@lru_cache(maxsize=65536)
def _rating(text: str) -> float | None:
    """A number on the scale, NaN where it was left blank, or None for what is neither."""
    if text.strip().lower() in ("", "nan"):
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        return None
    return number if _LOWEST <= number <= _HIGHEST else None


def _rating_faults(names: Iterable[str], texts: Iterable[str]) -> list[str]:
    return [
        f"{name} {text.strip()!r} is not a number from {_LOWEST} to {_HIGHEST}"
        for name, text in zip(names, texts, strict=True)
        if _rating(text) is None
    ]


@lru_cache(maxsize=65536)
def _emotion(primary: str) -> str | None:
    """A class, ``other`` for a worker's own words, or None for what is neither."""
    word = primary.strip().lower()
    return _OTHER if word.startswith(_OTHER) else _PRIMARY.get(word)


@dataclass
class _Judgements:
    """What the workers said.

    Args:
        known: The utterances' ids by file name.
        place: The file that is read, relative to the root, for faults.
        faults: (FILE:LINE, what is wrong), added to.
    """

    known: Mapping[str, str]
    place: str
    faults: list[tuple[str, str]]
    _said: list[tuple[str, str, str]] = field(default_factory=list)
    _rated: list[tuple[str, str, float | None, float | None, float | None]] = field(default_factory=list)

    def read_csv(self, path: Path) -> None:
        """Reads ``labels_detailed.csv``: one cell for a judgement (releases 1.7 to 1.12), or one for each fact."""
        header = read_text(path).lstrip().partition("\n")[0]
        columns: tuple[str, ...] = ("FileName", "EmoDetail")
        if "EmoDetail" not in header:
            worker = "Workers" if "Workers" in header else "WorkerID"  # 1.6, 2.0
            columns = ("FileName", worker, "EmoClass_Major", *_DIMENSIONS.values())
        for number, cells in csv_rows(path, columns):
            if not self._is_whole(number, cells, columns):
                continue
            name, *rest = (cells[column] for column in columns)
            if len(rest) == 1:
                self._add_text(number, name, rest[0])
            else:
                self._add(number, name, rest[0], rest[1], rest[2:])

    def read_text(self, path: Path) -> None:
        """Reads ``labels.txt``: a line for a file, one for each worker who judged it, and a blank one."""
        name: str | None = None
        judged: set[str] = set()
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.startswith(_WORKER):
                if name is None:
                    self._fault(number, "no line before this worker's names the file")
                elif name in self.known:
                    self._add_text(number, name, line)
                continue
            name = line.partition(";")[0].strip() if line.startswith(_FILE_PREFIX) else None
            if name is None:
                if line.strip():
                    self._fault(number, f"{line.strip()[:60]!r} is neither a file's line nor a worker's")
            elif self._is_known(number, name):
                if _WORKER in line:
                    self._fault(number, _RUN_ON)
                if name in judged:
                    self._fault(number, f"names {name} again")
                judged.add(name)

    @cached_property
    def annotations(self) -> pd.DataFrame:
        """As ``Corpus.annotations``."""
        frame = pd.DataFrame(self._said, columns=["utterance_id", "annotator", "label"], dtype=object)
        return frame.assign(is_self=False)

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """As ``Corpus.ratings``."""
        frame = pd.DataFrame(self._rated, columns=["utterance_id", "annotator", *_DIMENSIONS])
        return frame.astype(dict.fromkeys(_DIMENSIONS, float)).assign(is_self=False)

    def _fault(self, number: int, fault: str) -> None:
        self.faults.append((f"{self.place}:{number}", fault))

    def _is_whole(self, number: int, cells: Mapping[str, str], columns: Iterable[str]) -> bool:
        if fault := _shape(cells, columns):
            self._fault(number, fault)
        return fault is None and self._is_known(number, cells["FileName"])

    def _is_known(self, number: int, name: str) -> bool:
        if name not in self.known:
            self._fault(number, f"judges {name!r}, which the consensus does not list")
        return name in self.known

    def _add_text(self, number: int, name: str, text: str) -> None:
        matched = _JUDGEMENT.fullmatch(text.strip())
        if matched is None:
            self._fault(number, f"{text.strip()[:60]!r} is not like {_WORKER}1; Neutral; Neutral,Sad; A:3; V:4; D:3;")
            return
        worker, said, *ratings = matched.groups()
        if _WORKER in said or _FILE_PREFIX in said:
            self._fault(number, _RUN_ON)
        else:
            self._add(number, name, worker.strip(), said.partition(";")[0], ratings)

    def _add(self, number: int, name: str, worker: str, primary: str, ratings: list[str]) -> None:
        emotion = _emotion(primary)
        activation, valence, dominance = map(_rating, ratings)
        if worker and emotion and None not in (activation, valence, dominance):
            self._said.append((self.known[name], worker, emotion))
            self._rated.append((self.known[name], worker, activation, valence, dominance))
            return
        if not worker:
            self._fault(number, "names no worker")
        if not emotion:
            self._fault(number, f"primary emotion {primary.strip()!r} is none of the eight, nor Other-…")
        for fault in _rating_faults(_DIMENSIONS, ratings):
            self._fault(number, fault)
