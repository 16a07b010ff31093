"""Names as people write them: words for emotions and genders, names that look alike, and a file that renames them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from ser.corpora.source_files import read_csv_rows
from ser.utils.errors import DataErrors, UserError, listed, shown
from ser.utils.output_files import to_csv

EMOTION_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "amusement": ("amused",),
    "anger": ("angry", "ang"),
    "anxiety": ("anxious",),
    "boredom": ("bored", "bor"),
    "calm": ("calmness", "cal"),
    "confusion": ("confused",),
    "contempt": ("contemptuous", "con"),
    "disappointment": ("disappointed",),
    "disgust": ("disgusted", "dis"),
    "excitement": ("excited", "exc"),
    "fear": ("fearful", "afraid", "fea"),
    "frustration": ("frustrated", "fru"),
    "happiness": ("happy", "hap", "joy", "joyful"),
    "neutral": ("neutrality", "neu"),
    "pride": ("proud",),
    "relief": ("relieved",),
    "sadness": ("sad",),
    "sarcasm": ("sarcastic",),
    "shame": ("ashamed",),
    "sleepiness": ("sleepy",),
    "surprise": ("surprised", "sur", "pleasant surprise", "pleasant surprised", "ps"),
}
"""Words and abbreviations for each emotion, by its noun; the noun itself is one of the words."""

RENAMED_COLUMNS = ("speaker", "session", "label", "gender")
"""Columns whose names a file of ``rename`` may change."""
VOTES = "votes_"
"""Start of the name of a column with the votes for a class."""

_EMOTION = {word: noun for noun, words in EMOTION_FAMILIES.items() for word in (noun, *words)}
_GENDER = {
    **dict.fromkeys(("f", "female", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}
_MAX_SPEAKERS = 5  # named in a note
_NO_GENDER = {"", "-", "?", "na", "n/a", "nan", "none", "null", "<na>", "unknown", "unk"}


def emotion_of(name: str) -> str | None:
    """Return the noun of the emotion that a class name stands for, or None if it is no known word for one.

    Args:
        name: A class name in any case; underscores and hyphens count as blanks.

    Example:
        >>> emotion_of("Angry"), emotion_of("pleasant_surprise"), emotion_of("speaker7")
        ('anger', 'surprise', None)
    """
    return _EMOTION.get(" ".join(re.sub(r"[_-]", " ", folded(name)).split()))


def emotions_in_words(classes: Sequence[str]) -> list[str]:
    """Return class names as the nouns of their emotions, for tables, figures and sentences.

    Args:
        classes: Class names; a name that is no known word for an emotion, or shares its noun with another, stays.

    Example:
        >>> emotions_in_words(["ang", "Happy", "speaker7"]), emotions_in_words(["joy", "happy"])
        (['anger', 'happiness', 'speaker7'], ['joy', 'happy'])
    """
    nouns = [emotion_of(name) or name for name in classes]
    return [noun if nouns.count(noun) == 1 else name for name, noun in zip(classes, nouns, strict=True)]


def folded(name: str) -> str:
    """Return a name without what readers do not see or take for the same.

    Case, Unicode form, invisible characters, blanks at the ends, repeated blanks and leading zeros of numbers go.

    Example:
        >>> folded(" Ann "), folded("SPK_007"), folded("a 0")
        ('ann', 'spk_7', 'a 0')
    """
    same = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(character for character in same if unicodedata.category(character) != "Cf")
    return re.sub(r"(?<!\d)0+(?=\d)", "", " ".join(visible.split()))


def near_equal(names: Iterable[str], *, emotions: bool = False) -> list[tuple[str, ...]]:
    """Group names that readers take for one: equal after ``folded``.

    Args:
        names: Names of speakers, sessions or classes; repetitions count once.
        emotions: Whether the names are classes, so that words for one emotion are near-equal as well.

    Returns:
        The groups of two or more names, each sorted; empty if all names differ clearly.

    Example:
        >>> near_equal(["01", "1", "11", "Ann", "ann "])
        [('01', '1'), ('Ann', 'ann ')]
        >>> near_equal(["angry", "anger", "sad"]), near_equal(["angry", "anger", "sad"], emotions=True)
        ([], [('anger', 'angry')])
    """
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[(emotion_of(name) if emotions else None) or folded(name)].add(name)
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]


class NearEqualNames(UserError):
    """Names of speakers or sessions, or of labels and columns of votes, that readers take for one.

    A speaker under two names would be trained on and tested on.

    Args:
        where: The corpus, for the message.
        found: Column → its groups of near-equal names, the most frequent first, with their numbers of utterances.
    """

    def __init__(self, where: str, found: Mapping[str, Sequence[Sequence[tuple[str, int]]]]) -> None:
        self.found = found
        lines = [
            f"  {column} " + " and ".join(f"'{escaped(name)}' ({counted(number)})" for name, number in group)
            for column, groups in found.items()
            for group in groups
        ]
        advice = (
            "Labels and columns of votes must write a class in one way."
            if "label" in found
            else "A speaker under two names would be in training and in test. Write each name in one way in the data; "
            "two speakers need names that differ clearly."
        )
        super().__init__("\n".join([f"{where} has names that look alike:", *lines, advice]))

    def file_content(self) -> str:
        """Return the content of a file for ``rename`` that gives each group its most frequent name."""
        lines = [
            (column, escaped(name), escaped(group[0][0]))
            for column, groups in self.found.items()
            for group in groups
            for name, _ in group[1:]
        ]
        return to_csv(("column", "old", "new"), lines)


def counted(number: int) -> str:
    """Return a number of utterances in words."""
    return f"{number} utterance" + ("s" if number != 1 else "")


def gender_of(cell: Any) -> str:
    """Return female, male or unknown for a cell of a table.

    Args:
        cell: A text in any case, such as ``F`` or ``woman``, or a missing value.

    Example:
        >>> gender_of("F"), gender_of("Man"), gender_of(None), gender_of("N/A")
        ('female', 'male', 'unknown', 'unknown')
    """
    return _GENDER.get(str(cell).strip().casefold(), "unknown")


def gender_notes(speakers: Iterable[Any], cells: Iterable[Any]) -> tuple[str, ...]:
    """Return lines for people about genders that were not understood, and speakers of two genders.

    Args:
        speakers: N speakers.
        cells: N cells with their genders.

    Example:
        >>> gender_notes(["ann", "ann", "bob", "bob"], ["f", "M", "3", None])
        ("gender '3' (1 utterance) is taken as unknown", "speaker 'ann' has two genders: 1 female, 1 male")
    """
    cells = list(cells)
    words = Counter(text for text in map(_text, cells) if text.casefold() not in {*_GENDER, *_NO_GENDER})
    taken = [f"{shown(word)} ({counted(number)})" for word, number in words.most_common()]
    notes = [f"gender {listed(taken, most=5)} is taken as unknown"] if taken else []
    of: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for speaker, cell in zip(map(_text, speakers), cells, strict=True):
        of[speaker][gender_of(cell)] += 1
    both = [
        f"speaker {shown(speaker)} has two genders: {found['female']} female, {found['male']} male"
        for speaker, found in of.items()
        if found["female"] and found["male"]
    ]
    more = [f"{len(both) - _MAX_SPEAKERS} more speakers have two genders"] if len(both) > _MAX_SPEAKERS else []
    return (*notes, *both[:_MAX_SPEAKERS], *more)


def rename(frame: pd.DataFrame, file: Path) -> pd.DataFrame:
    r"""Rename speakers, sessions, classes and genders of a table by a file.

    Args:
        frame: Any of the columns speaker, session, label, true_label, gender and votes_CLASS; cells are compared as
            text without blanks at their ends. Other columns are kept.
        file: CSV with the columns ``column``, ``old`` and ``new``; ``label`` stands for ``true_label`` and the names
            of votes columns as well. Characters may be written as in Python, such as ``\u0301``.

    Returns:
        A new table; cells that the file does not name are kept as they are.

    Raises:
        UserError: If the file cannot be read.
        DataErrors: If a line is incomplete, repeats an old name, or names what the table does not have.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "names.csv")
        ...     _ = file.write_text("column,old,new\nspeaker,ann,Ann\n")
        ...     rename(pd.DataFrame({"speaker": ["Ann", "ann", "bob"]}), file)["speaker"].tolist()
        ['Ann', 'Ann', 'bob']
    """
    changes, errors = _read_changes(file)
    frame = frame.copy()
    found: set[tuple[str, str]] = set()
    for column in (*RENAMED_COLUMNS, "true_label"):
        if column in frame:
            kind = "label" if column == "true_label" else column
            texts = frame[column].map(_text)
            new = _by_spelling(changes[kind], texts)
            found |= {(kind, old) for old in new}
            cells = [new.get(text, cell) for text, cell in zip(texts, frame[column], strict=True)]
            frame[column] = pd.Series(cells, frame.index, dtype=object)
    classes = [str(column).removeprefix(VOTES) for column in frame.columns if str(column).startswith(VOTES)]
    new = _by_spelling(changes["label"], classes)
    found |= {("label", old) for old in new}
    frame = frame.rename(columns={f"{VOTES}{old}": f"{VOTES}{name}" for old, name in new.items()})
    errors += [
        (f"{column},{escaped(old)},{escaped(name)}", f"no {column} has the old name")
        for column, names in changes.items()
        for old, name in names.items()
        if not {(column, old), (column, _unescaped(old))} & found
    ]
    if errors:
        raise DataErrors(f"names {file}", errors, _ADVICE)
    return frame


def escaped(name: str) -> str:
    r"""Return a name as it is if a reader sees all of it, else in ASCII with Python's escapes.

    Example:
        >>> print(escaped("Zo\u00eb"), escaped("Zoe\u0308"))
        Zoë Zoe\u0308
    """
    if name.isprintable() and unicodedata.is_normalized("NFKC", name):
        return name
    return name.encode("unicode_escape").decode("ascii")


def _unescaped(name: str) -> str:
    r"""Return a name with the characters that escapes such as ``\u0301`` stand for."""
    with suppress(UnicodeDecodeError):
        return name.encode("latin-1", "backslashreplace").decode("unicode_escape")
    return name


def _by_spelling(changes: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the new names by the old ones as a table spells them; names it lacks are left out."""
    known = set(names)
    spellings = {spelling: new for old, new in changes.items() for spelling in (_unescaped(old), old)}
    return {old: new if new in known else _unescaped(new) for old, new in spellings.items() if old in known}


def _read_changes(file: Path) -> tuple[defaultdict[str, dict[str, str]], list[tuple[str, str]]]:
    """Return the new names by column and old name, and (line, what is wrong)."""
    changes: defaultdict[str, dict[str, str]] = defaultdict(dict)
    errors: list[tuple[str, str]] = []
    for number, cells in read_csv_rows(file, ("column", "old", "new")):
        column, old, new = (cells.get(name, "") for name in ("column", "old", "new"))
        where = f"line {number}"
        if (column, old, new) == ("column", "old", "new"):
            continue  # files were put together
        if column not in RENAMED_COLUMNS:
            errors.append((where, f"column {shown(column)} is not one of {', '.join(RENAMED_COLUMNS)}"))
        elif not old or not new:
            errors.append((where, "has no old or no new name"))
        elif changes[column].setdefault(old, new) != new:
            errors.append((where, f"gives {column} {shown(old)} a second new name"))
    return changes, errors


def _text(cell: Any) -> str:
    """Return a cell as text without blanks at its ends; a missing one is empty, a whole number has no decimals."""
    if cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


_ADVICE = "Expected: a first line 'column,old,new', then a line such as 'speaker,ann,Ann' for each name to change."
