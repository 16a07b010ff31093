"""Corpora sorted into folders: ``CLASS/file.wav``, ``SPEAKER/CLASS/file.wav``, ``CLASS/SPEAKER/file.wav``."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ser.corpora.loader_result import LoaderResult
from ser.corpora.names import emotion_of, gender_of
from ser.corpora.source_files import list_files, official_subset, separate_copies
from ser.corpora.speaker_patterns import find_speakers, missing_speakers
from ser.corpora.tables import result_of
from ser.utils.errors import UserError

_LAYOUT = "angry/03a01.wav, ann/angry/1.wav or angry/ann/1.wav"
_FIELDS = ("class", "speaker", "gender", "subset")
_COLUMNS = {"class": "label", "subset": "official_subset"}
_FEWEST_SPEAKERS = 3  # that folders are taken for; fewer may be intensities, microphones or subsets
_SHOWN = 6  # folder names in a message


@dataclass(frozen=True)
class _Layout:
    """Meaning of the levels of folders.

    Args:
        text: As the option ``layout``.
        pattern: Matches the folders of a file, with a final slash.
        note: Line for people.
        levels: Sentence about levels without a meaning that may be the speaker.
    """

    text: str
    pattern: re.Pattern[str]
    note: str
    levels: str = ""

    def has(self, field: str) -> bool:
        return _group(field) in self.pattern.groupindex


def load_folders(root: Path, *, layout: str = "", speaker: str = "", names: str = "") -> LoaderResult:
    """Load a corpus whose folders are named by class, and by speaker or by subset; no audio is decoded.

    The class is the level of folders of which most are names of emotions; all folders of that level are classes. The
    speaker is another level with at least three names that the classes share. A level of train, validation and test is
    the official split, one of female and male the gender. Where this is not clear, it is an error that asks.

    Args:
        root: The folder around all of that.
        layout: The levels from ``root`` on, such as ``speaker/class`` or ``*/class/speaker``, for folders with other
            names: ``class``, ``speaker``, ``gender``, ``subset`` or ``*`` for each level. Two of them can be in one
            name: ``speaker_class`` for ``OAF_angry``. Empty: as above.
        speaker: A regular expression that finds the speaker, its first group, in ``/PATH`` below ``root``, where no
            folder names the speaker: ``/([^/]{2})[^/]*$`` is the first two characters of the file's name. A group
            called ``gender`` finds the gender.
        names: A file of other names for speakers, classes and genders, as ``ser.corpora.names.rename`` reads.

    Returns:
        The rows: utterance id = the path below ``root`` without its suffix. Data errors are files outside of these
        folders, and names in which ``speaker`` is not found.

    Raises:
        UserError: If there is no audio, the class or the speaker is not clear, or an option is wrong.
    """
    files = list_files(root) if root.is_dir() else None
    if files is None or not files.audio():
        raise UserError(f"no audio found below {root}. {f'{files.summary()}. ' if files else ''}Expected: {_LAYOUT}.")
    by_id: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files.audio():
        by_id[path.relative_to(root).with_suffix("").as_posix()].append(path)
    clips = separate_copies(by_id, root)
    ids = {path.relative_to(root).as_posix(): id_ for id_, path in clips.rows}
    found = _parse_layout(layout, list(ids)) if layout else _find_layout(root, list(ids), by_folder=not speaker)
    fields = [field for field in _FIELDS if found.has(field)]
    errors: list[tuple[str, str]] = []
    rows = []
    for name, id_ in ids.items():
        if match := found.pattern.match(name.rpartition("/")[0] + "/"):
            rows.append([id_, name, *(match[_group(field)] for field in fields)])
        else:
            errors.append((name, f"is not in folders {found.text}"))
    frame = pd.DataFrame(rows, columns=["utterance_id", "path", *(_COLUMNS.get(field, field) for field in fields)])
    unused, about_unused = files.unused(set(ids), "", copies=clips.copies)
    notes = [found.note, *clips.notes, *about_unused]
    if speaker:
        frame["speaker"], genders, problems = find_speakers(speaker, list(frame["path"]))
        frame["gender"] = frame.get("gender", pd.Series(genders))
        frame = frame[frame["speaker"].notna()]
        errors += problems
        notes.append(f"speakers by {speaker}: {_listed(sorted(frame['speaker'].unique()))}")
    elif "speaker" not in frame:
        options = [f"layout={layout}"] if layout else []
        raise missing_speakers("folders", root, list(frame["path"]), list(frame["label"]), found.levels, options)
    result = result_of(
        frame,
        name="folders",
        where=f"corpus 'folders' at {root}",
        folder=root,
        notes=notes,
        names=Path(names).expanduser() if names else None,
    )
    advice = "--corpus-options layout=… says what the levels of folders are."
    return replace(result, errors=[*errors, *result.errors], advice=advice, unused=unused)


def _group(field: str) -> str:
    return f"{field}_"  # class is a keyword that group names may not be


def _parse_layout(layout: str, paths: Sequence[str]) -> _Layout:
    """Return the layout that an option describes.

    Raises:
        UserError: If it is wrong, or fits no file.
    """
    option = f"--corpus-options layout={layout}"
    levels = layout.strip("/").split("/")
    words = re.findall("[a-z]+", layout)
    if unknown := [word for word in words if word not in _FIELDS]:
        raise UserError(f"{option}: {unknown[0]!r} is not one of {', '.join(_FIELDS)}, *. Example: speaker/class.")
    if words.count("class") != 1 or len(set(words)) < len(words):
        raise UserError(f"{option} must have class once, and nothing twice. Example: speaker/class.")
    pattern = ""
    for level in levels:
        parts = re.split(r"([a-z]+|\*)", level)
        for part in parts:
            kind = f"(?P<{_group(part)}>[^/]+?)" if part in _FIELDS else "[^/]*?" if part == "*" else re.escape(part)
            pattern += kind
        pattern += "/"
    found = _Layout(layout, re.compile(pattern), f"folders are {layout}")
    if not any(found.pattern.match(path) for path in paths):
        raise UserError(f"{option} fits none of the {len(paths)} files, such as {paths[0]!r}.")
    return found


def _find_layout(root: Path, paths: Sequence[str], *, by_folder: bool) -> _Layout:
    """Return the layout by the names of the folders at each level.

    Args:
        root: The folder around all of that.
        paths: The files, relative to it.
        by_folder: Whether a level of folders is to be the speaker.

    Raises:
        UserError: If no level, or more than one, may be the class or the speaker.
    """
    folders = [path.split("/")[:-1] for path in paths]
    depth = max(map(len, folders))
    levels = [Counter(names[level] for names in folders if len(names) > level) for level in range(depth)]
    if all(len(level) < 2 for level in levels):
        raise UserError(
            f"corpus 'folders' at {root}: the {len(paths)} files, such as {paths[0]!r}, lie in no folders of classes. "
            "Labels that no folder names need a table, --corpus table."
        )
    emotional = [sum(count for name, count in level.items() if emotion_of(name)) / len(paths) for level in levels]
    named = [level for level, share in enumerate(emotional) if share > 0.5 and len(levels[level]) > 1]
    if len(named) != 1:
        raise UserError(
            f"corpus 'folders' at {root}: {'several levels' if named else 'no level'} of folders "
            f"{'are' if named else 'is'} named by emotions. {_levels_text(levels)} Give them: --corpus-options "
            f"layout={_example_layout(levels)}. A level is class, speaker, gender, subset or *; two can be in one "
            "name, as in speaker_class for OAF_angry. Labels that no folder names need a table, --corpus table."
        )
    (of_class,) = named
    kinds = ["*"] * depth
    kinds[of_class] = "class"
    candidates = []
    for number, level in enumerate(levels):
        if number == of_class or len(level) < 2:
            continue
        if _are_subsets(level):
            kinds[number] = "subset"
        elif all(gender_of(name) != "unknown" for name in level):
            kinds[number] = "gender"
        elif by_folder and len(level) >= _FEWEST_SPEAKERS and _are_shared(folders, number, of_class):
            candidates.append(number)
    if len(candidates) > 1:
        raise UserError(
            f"corpus 'folders' at {root}: several levels of folders may be the speaker. {_levels_text(levels)} Give "
            f"the levels: --corpus-options layout={'/'.join(kinds)} with speaker in place of one *."
        )
    for number in candidates:
        kinds[number] = "speaker"
    taken = [f"{kind} {_listed(sorted(levels[number]))}" for number, kind in enumerate(kinds) if kind != "*"]
    if others := [name for name in sorted(levels[of_class]) if not emotion_of(name)]:
        taken.append(f"no emotion by its name: {_listed(others)}")
    several = [level for number, level in enumerate(levels) if kinds[number] == "*" and len(level) > 1]
    every, text = "/".join(kinds), "/".join(kinds).rstrip("/*")
    return replace(
        _parse_layout(text, paths),
        note=f"folders are {text}: {'; '.join(taken)}",
        levels=f"{_levels_text(levels)} If one of these levels is the speaker: --corpus-options layout={every} with "
        "speaker in place of its *."
        if several
        else "",
    )


def _are_subsets(level: Counter[str]) -> bool:
    try:
        return len({official_subset(name) for name in level} - {""}) > 1
    except ValueError:
        return False


def _are_shared(folders: Sequence[Sequence[str]], number: int, of_class: int) -> bool:
    """Return whether most names of a level are in more than one class, as speakers are."""
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for names in folders:
        if len(names) > max(number, of_class):
            classes[names[number]].add(names[of_class])
    return sum(len(found) > 1 for found in classes.values()) > len(classes) / 2


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")


def _levels_text(levels: Sequence[Counter[str]]) -> str:
    return " ".join(f"Level {number}: {_listed(sorted(level))}." for number, level in enumerate(levels, start=1))


def _example_layout(levels: Sequence[Counter[str]]) -> str:
    """Return a layout to try: the class at the end of a folder's name, or folders of classes in those of speakers."""
    stars = ["*"] * (len(levels) - 1)
    for number, level in enumerate(levels):
        for separator in "_- ":
            if all(emotion_of(name.partition(separator)[2]) for name in level):
                return "/".join([*stars[:number], f"speaker{separator}class"])
    return "/".join([*stars[:-1], "speaker", "class"][-max(len(levels), 1) :])
