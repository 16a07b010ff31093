"""MSP-Podcast: segments of podcasts, judged by crowd workers (Lotfian and Busso, 2019; Busso et al., 2025)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import pandas as pd

from ser.corpora.corpus import count_votes
from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import list_files, official_subset, read_csv_rows, read_text
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

_OTHER, _WITHHELD = "other", "withheld"
_OUTSIDE = {"O": _OTHER, "X": "no agreement"}
# Workers chose adjectives; the consensus has nouns.
_PRIMARY = {name: name for name in CLASSES} | {"angry": "anger", "happy": "happiness", "sad": "sadness"}
_DIMENSIONS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
_LOWEST, _HIGHEST = 1, 7

_DEFAULT_TEST = "test1"
_TABLE_COLUMNS = ("utterance_id", "path", "speaker", "gender", "label", "official_subset")
_COLUMNS = ("FileName", "EmoClass", *_DIMENSIONS.values(), "SpkrID", "Gender", "Split_Set")
_FILE_PREFIX = "MSP-PODCAST_"
_FILE = re.compile(rf"({_FILE_PREFIX}([0-9A-Za-z]+)_[0-9A-Za-z_]+)\.wav")
_WORKER = "WORKER"
# A worker's own words may contain semicolons, so the ratings are matched from the end.
_JUDGEMENT = re.compile(rf"({_WORKER}[^;]*);(.*);\s*A:([^;]*);\s*V:([^;]*);\s*D:([^;]*);?", re.DOTALL)
_RUN_ON = "contains further lines. Is a quotation mark or a line break missing?"

# Names of folders and files in the releases, in lower case; the first one that exists is used.
_LABEL_FOLDERS = ("labels", "label")
_AUDIO_FOLDERS = ("audios", "audio")
_CONSENSUS = ("labels_consensus.csv", "labels_concensus.csv")
_DETAILED = ("labels_detailed.csv", "labels.txt")
_LAYOUT = "Audios/MSP-PODCAST_0001_0008.wav, Labels/labels_consensus.csv and Labels/labels_detailed.csv"


def load_msp_podcast(root: Path, *, test: Literal["test1", "test2", "test1+test2", "test3"] = "test1") -> LoaderResult:
    """Load the label files of MSP-Podcast, releases 1.6 to 2.0; no audio is decoded.

    The utterances are those of ``Labels/labels_consensus.csv`` (up to release 1.9 ``labels_concensus.csv``). The label
    is the consensus on the primary emotion. Utterances without agreement (X), or with agreement on another emotion
    (O), are counted in ``outside``. So are utterances of Test3 without a label, as ``withheld``, because the releases
    do not publish the labels of that set. ``Split_Set`` becomes the official split, of which the chosen test set is
    tested; utterances of the others are in no subset.

    Votes are the workers' primary emotions, from ``labels_detailed.csv`` or, without it, ``labels.txt``; without
    either there are none. ``Other-…``, in a worker's own words, is a vote for another category. Secondary emotions
    are not votes. A worker who judged an utterance twice votes for each different emotion named.

    Where the speaker is unknown, the podcast is used instead: ``unknown-0001`` stands for all unknown speakers of
    podcast 0001, so that a split by speaker keeps them together. One of them may be a named speaker elsewhere.

    Args:
        root: A folder that contains ``Audios`` and ``Labels``.
        test: The test set of the official split.

    Returns:
        The rows: utterance id = the file's name without ``.wav``, speaker = ``SpkrID``, no sessions; activation,
        valence and dominance from 1 to 7, the consensus in the rows and those of each worker in ``ratings``. Data
        errors are wrong file names, different rows of one file, unknown codes and subsets, blank speakers, ratings
        that are not on the scale, judgements of files that the consensus does not list, and utterances for which no
        worker named a class.

    Raises:
        UserError: If a folder or the consensus is missing, a label file cannot be read or lacks columns, or the test
            set has no labels.
    """
    entries = _entries(root)
    labels, audio = _first(entries, _LABEL_FOLDERS), _first(entries, _AUDIO_FOLDERS)
    if labels is None or audio is None:
        missing = " and no folder ".join(name for name, path in (("Labels", labels), ("Audios", audio)) if path is None)
        raise UserError(f"no folder {missing} found in {root}. Expected is the folder of MSP-Podcast: {_LAYOUT}.")
    files = _entries(labels)
    consensus, detailed = _first(files, _CONSENSUS), _first(files, _DETAILED)
    if consensus is None:
        raise UserError(f"no {_CONSENSUS[0]} found in {labels}. Expected is the folder of MSP-Podcast: {_LAYOUT}.")

    errors: list[tuple[str, str]] = []
    tests = tuple(test.split("+"))
    found = _read_consensus(consensus, consensus.relative_to(root).as_posix(), tests, errors)
    known, rows = found.known, found.rows
    if not known and not errors:
        raise UserError(f"{consensus} has no rows.")
    about_tests = _about_tests(found, tests)
    listed = list_files(root)
    audio_of = {id_: listed.audio_of(f"{audio.name}/{id_}") for id_ in known.values()}
    table = pd.DataFrame(rows, columns=[*_TABLE_COLUMNS, *_DIMENSIONS])
    table["path"] = [f"{root}/{audio_of[id_]}" for id_ in table["utterance_id"]]
    used = {path.relative_to(root).as_posix() for path in (consensus, detailed) if path is not None}
    unused, about_files = listed.unused({*audio_of.values(), *used}, f"no row of {consensus.name} names it")
    annotations = ratings = None
    if detailed is not None:
        judgements = _Judgements(known, detailed.relative_to(root).as_posix(), errors)
        if detailed.suffix.lower() == ".csv":
            judgements.read_csv(detailed)
        else:
            judgements.read_text(detailed)
        annotations, ratings = judgements.annotations, judgements.ratings
        if rows:
            votes, others = count_votes(annotations, list(table["utterance_id"]), CLASSES)
            table = table.assign(votes=pd.Series(votes, dtype=object), other_votes=others)
            unheard = table["votes"].isna()
            errors += [(id_, "no worker named one of the classes") for id_ in table["utterance_id"][unheard]]
            table = table[~unheard]
    return LoaderResult(
        "msp-podcast",
        f"corpus 'msp-podcast' at {root}",
        table,
        CLASSES,
        root,
        errors,
        f"Expected: {_LAYOUT}.",
        annotations=annotations,
        ratings=ratings,
        outside=found.outside,
        notes=(*about_tests, *found.notes, *about_files),
        unused=unused,
    )


def _entries(folder: Path) -> dict[str, Path]:
    """Return the content of a folder by name in lower case."""
    try:
        return {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True)}
    except OSError as error:
        raise UserError(f"folder {str(folder)!r} cannot be read: {error.strerror}. Expected: {_LAYOUT}.") from error


def _first(entries: Mapping[str, Path], names: Iterable[str]) -> Path | None:
    return next((entries[name] for name in names if name in entries), None)


@dataclass
class _Consensus:
    """Content of the consensus file.

    Args:
        known: The utterance ids by file name.
        rows: The rows of the utterances in a class.
        outside: The number of other utterances by the word for their category.
        left: The number of utterances in each test set that is not chosen, withheld ones included.
        repeated: Places of rows that repeat an earlier one.
    """

    known: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, object]] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    repeated: list[str] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a line about repeated rows, if there are any."""
        if not self.repeated:
            return ()
        return (f"rows of the consensus that repeat another: {len(self.repeated)}, for example {self.repeated[0]}",)


def _read_consensus(path: Path, place: str, tests: Collection[str], errors: list[tuple[str, str]]) -> _Consensus:
    """Return the content of the consensus file; add what is wrong with its rows to ``errors``."""
    found = _Consensus()
    first: dict[str, tuple[int, int]] = {}  # line and hash of the cells
    for number, cells in read_csv_rows(path, _COLUMNS):
        name = cells.get("FileName", "")
        matched = _FILE.fullmatch(name)
        if matched is None:
            errors.append((f"{place}:{number}", f"FileName {name!r} is not like MSP-PODCAST_0001_0008.wav"))
            continue
        id_, podcast = matched.groups()
        content = hash(tuple(cells.values()))
        line, before = first.setdefault(name, (number, content))
        if line != number:
            if before == content:
                found.repeated.append(f"{place}:{number}")
            else:
                errors.append((f"{place}:{number}", f"has other cells for {name} than line {line}"))
            continue
        found.known[name] = id_
        if problem := _shape_problem(cells, _COLUMNS):
            errors.append((f"{place}:{number}", problem))
            continue
        subset_name = cells["Split_Set"]
        try:
            subset = official_subset(subset_name, tests)
        except ValueError as error:
            errors.append((id_, f"Split_Set {error}"))
            continue
        if not subset and subset_name:
            found.left[subset_name.lower()] += 1
        if cells["EmoClass"] in _OUTSIDE:
            found.outside[_OUTSIDE[cells["EmoClass"]]] += 1
        elif not cells["EmoClass"] and subset_name.lower().startswith("test"):
            found.outside[_WITHHELD] += 1
        elif wrong := _row_problems(cells):
            errors += [(id_, problem) for problem in wrong]
        else:
            speaker = cells["SpkrID"]
            found.rows.append(
                {
                    "utterance_id": id_,
                    "speaker": f"unknown-{podcast}" if speaker.lower() == "unknown" else speaker,
                    "gender": cells["Gender"],
                    "label": _CODES[cells["EmoClass"]],
                    "official_subset": subset,
                    **{dimension: _rating(cells[column]) for dimension, column in _DIMENSIONS.items()},
                }
            )
    return found


def _about_tests(found: _Consensus, tests: Collection[str]) -> tuple[str, ...]:
    """Return a line about the official split, if there is one.

    Raises:
        UserError: If a test set that does not exist, or whose labels are withheld, is asked for.
    """
    name = "+".join(tests)
    if not any(row["official_subset"] == "test" for row in found.rows):
        if name == _DEFAULT_TEST:
            return ()
        raise UserError(
            f"no utterance of {name} has a label ({found.outside[_WITHHELD]} are withheld in this release). "
            "Pass another --corpus-options test=…."
        )
    rest = ", ".join(f"{count} of {word}" for word, count in sorted(found.left.items()))
    return (f"official split: {name} is the test set" + (f"; in no subset: {rest}" if rest else ""),)


def _row_problems(cells: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the cells of an utterance in the consensus."""
    errors = []
    if (code := cells["EmoClass"]) not in _CODES:
        errors.append(f"EmoClass {code!r} is not one of {', '.join(sorted(_CODES | _OUTSIDE))}")
    if not cells["SpkrID"]:
        errors.append("SpkrID is blank")
    return errors + _rating_problems(_DIMENSIONS.values(), (cells[column] for column in _DIMENSIONS.values()))


def _shape_problem(cells: Mapping[str, str], columns: Iterable[str]) -> str | None:
    """Return what is wrong with the shape of a line, or None: lines within a cell, too many cells, or too few."""
    if any(_FILE_PREFIX in cell for column, cell in cells.items() if column != "FileName"):
        return _RUN_ON
    if "" in cells:
        return "has too many cells"
    missing = [column for column in columns if column not in cells]
    return f"has too few cells: no {', '.join(missing)}" if missing else None


@lru_cache(maxsize=65536)
def _rating(text: str) -> float | None:
    """Parse a rating: a number on the scale, NaN if blank, None for anything else."""
    if text.strip().lower() in ("", "nan"):
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        return None
    return number if _LOWEST <= number <= _HIGHEST else None


def _rating_problems(names: Iterable[str], texts: Iterable[str]) -> list[str]:
    return [
        f"{name} {text.strip()!r} is not a number from {_LOWEST} to {_HIGHEST}"
        for name, text in zip(names, texts, strict=True)
        if _rating(text) is None
    ]


@lru_cache(maxsize=65536)
def _emotion(primary: str) -> str | None:
    """Return the class, ``other`` for a worker's own words, or None for anything else."""
    word = primary.strip().lower()
    return _OTHER if word.startswith(_OTHER) else _PRIMARY.get(word)


@dataclass
class _Judgements:
    """Individual judgements of the workers.

    Args:
        known: The utterance ids by file name.
        place: The file that is read, relative to the root, for data errors.
        errors: (FILE:LINE, what is wrong); errors found are appended.
    """

    known: Mapping[str, str]
    place: str
    errors: list[tuple[str, str]]
    _said: list[tuple[str, str, str]] = field(default_factory=list)
    _rated: list[tuple[str, str, float | None, float | None, float | None]] = field(default_factory=list)

    def read_csv(self, path: Path) -> None:
        """Read ``labels_detailed.csv``: a judgement is one cell (releases 1.7 to 1.12), or one cell per field."""
        header = read_text(path).lstrip().partition("\n")[0]
        columns: tuple[str, ...] = ("FileName", "EmoDetail")
        if "EmoDetail" not in header:
            worker = "Workers" if "Workers" in header else "WorkerID"  # 1.6, 2.0
            columns = ("FileName", worker, "EmoClass_Major", *_DIMENSIONS.values())
        for number, cells in read_csv_rows(path, columns):
            if not self._is_complete(number, cells, columns):
                continue
            name, *rest = (cells[column] for column in columns)
            if len(rest) == 1:
                self._add_text(number, name, rest[0])
            else:
                self._add(number, name, rest[0], rest[1], rest[2:])

    def read_text(self, path: Path) -> None:
        """Read ``labels.txt``: a line with the file, a line per worker who judged it, and a blank line."""
        name: str | None = None
        judged: set[str] = set()
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.startswith(_WORKER):
                if name is None:
                    self._add_error(number, "no earlier line names the file that this worker judged")
                elif name in self.known:
                    self._add_text(number, name, line)
                continue
            name = line.partition(";")[0].strip() if line.startswith(_FILE_PREFIX) else None
            if name is None:
                if line.strip():
                    self._add_error(number, f"{line.strip()[:60]!r} is neither the line of a file nor that of a worker")
            elif self._is_known(number, name):
                if _WORKER in line:
                    self._add_error(number, _RUN_ON)
                if name in judged:
                    self._add_error(number, f"repeats {name}")
                judged.add(name)

    @cached_property
    def annotations(self) -> pd.DataFrame:
        """Return the workers' primary emotions, as in ``Corpus.annotations``."""
        frame = pd.DataFrame(self._said, columns=["utterance_id", "annotator", "label"], dtype=object)
        return frame.assign(is_self=False)

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """Return the workers' ratings, as in ``Corpus.ratings``."""
        frame = pd.DataFrame(self._rated, columns=["utterance_id", "annotator", *_DIMENSIONS])
        return frame.astype(dict.fromkeys(_DIMENSIONS, float)).assign(is_self=False)

    def _add_error(self, number: int, problem: str) -> None:
        self.errors.append((f"{self.place}:{number}", problem))

    def _is_complete(self, number: int, cells: Mapping[str, str], columns: Iterable[str]) -> bool:
        if problem := _shape_problem(cells, columns):
            self._add_error(number, problem)
        return problem is None and self._is_known(number, cells["FileName"])

    def _is_known(self, number: int, name: str) -> bool:
        if name not in self.known:
            self._add_error(number, f"judges {name!r}, which is not in the consensus")
        return name in self.known

    def _add_text(self, number: int, name: str, text: str) -> None:
        matched = _JUDGEMENT.fullmatch(text.strip())
        if matched is None:
            self._add_error(number, f"{text.strip()[:60]!r} is not like WORKER1; Neutral; Neutral,Sad; A:3; V:4; D:3;")
            return
        worker, said, *ratings = matched.groups()
        if _WORKER in said or _FILE_PREFIX in said:
            self._add_error(number, _RUN_ON)
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
            self._add_error(number, "has no worker")
        if not emotion:
            self._add_error(number, f"primary emotion {primary.strip()!r} is neither one of the classes nor Other-…")
        for problem in _rating_problems(_DIMENSIONS, ratings):
            self._add_error(number, problem)
