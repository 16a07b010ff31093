"""Corpora in Kaldi data folders: ``wav.scp``, ``utt2spk``, ``utt2emo``, ``segments``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ser.corpora.corpus import relative_paths
from ser.corpora.loader_result import LoaderResult
from ser.corpora.source_files import official_subset, read_text
from ser.corpora.speaker_patterns import missing_speakers
from ser.corpora.tables import result_of
from ser.utils.errors import UserError

_LABELS = ("utt2emo", "utt2label")
_LAYOUT = "wav.scp, utt2spk and utt2emo (or utt2label), or folders such as train, dev and test that hold them"

_Errors = list[tuple[str, str]]


def load_kaldi(root: Path, *, speaker: str = "", names: str = "") -> LoaderResult:
    """Load a corpus from a Kaldi data folder, or from one for each subset; no audio is decoded.

    Each line of a file begins with an id. ``wav.scp`` names the audio, ``utt2spk`` the speaker, ``utt2emo`` or
    ``utt2label`` the label; optional are ``segments`` (utterance, recording, start, end; an end of -1 is that of the
    recording) and ``utt2gender`` or ``spk2gender``. Other files are not read. Commands in ``wav.scp``
    (``sph2pipe … |``) are never executed.

    Where ``utt2spk`` makes each utterance its own speaker, as Kaldi has it for unknown speakers, they are unknown.

    A relative path begins at the data folder or at a folder above it: at the nearest one where an audio file exists.

    Args:
        root: A folder with ``wav.scp``, or with folders that have one. If these are called train, dev and test, they
            are the official split; otherwise their utterances are put together.
        speaker: A regular expression that finds the speaker, its first group, in ``/PATH`` of the audio below the
            folder that holds all of it, in place of ``utt2spk``.
        names: A file of other names for speakers, classes and genders, as ``ser.corpora.names.rename`` reads.

    Returns:
        The rows: utterance id = that of ``segments`` or, without segments, of ``wav.scp``. The root is the folder
        that holds all audio. Data errors are ids that one of the files lacks, and lines that cannot be read.

    Raises:
        UserError: If there is no such folder, a file is missing or unreadable, or ``wav.scp`` has commands.
    """
    parts = [root] if (root / "wav.scp").is_file() else sorted(path.parent for path in root.glob("*/wav.scp"))
    if not parts:
        raise UserError(f"{root} is not a Kaldi data folder. Expected: {_LAYOUT}.")
    errors: _Errors = []
    notes: list[str] = []
    frame = pd.concat([_read_folder(part, root, errors, notes) for part in parts], ignore_index=True)
    subsets = _subsets(part.name for part in parts)
    if len(parts) > 1 and {"train", "validation", "test"} <= set(subsets.values()):
        frame["official_subset"] = frame["folder"].map(subsets)
        notes.append("official split: " + ", ".join(f"{folder} is {subset}" for folder, subset in subsets.items()))
    elif len(parts) > 1:
        notes.append(f"the utterances of {', '.join(part.name for part in parts)} are put together without a split")
    if frame.empty and not errors:
        raise UserError(f"{root} has no utterances: wav.scp is empty.")
    where = f"corpus 'kaldi' at {root}"
    advice = "The files of a Kaldi folder must have the same utterances."
    if frame.empty:
        return LoaderResult("kaldi", where, frame, None, root, errors, advice, notes=tuple(notes))
    folder = Path(os.path.commonpath([Path(path).parent for path in frame["path"]]))
    renames = Path(names).expanduser() if names else None
    frame = frame.drop(columns="folder")
    if speaker:
        frame = frame.drop(columns="speaker")
    elif (frame["speaker"] == frame["utterance_id"]).all():
        raise missing_speakers("kaldi", root, relative_paths(frame["path"], folder), list(frame["label"]))
    result = result_of(
        frame, name="kaldi", where=where, folder=folder, notes=notes, names=renames, speaker=speaker, source=root
    )
    return replace(result, errors=[*errors, *result.errors], advice=advice)


def _subsets(names: Iterable[str]) -> dict[str, str]:
    """Return the subset of the official split that each folder is, or nothing if one of them is none."""
    try:
        return {name: official_subset(name) for name in names}
    except ValueError:
        return {}


def _read_folder(folder: Path, root: Path, errors: _Errors, notes: list[str]) -> pd.DataFrame:
    """Return the utterances of one data folder that all of its files have."""
    recordings = _recordings(folder, root, errors)
    cuts: dict[str, tuple[str, float, float]]
    if (folder / "segments").is_file():
        cuts = _segments(folder / "segments", root, errors)
        unused = recordings.keys() - {recording for recording, _, _ in cuts.values()}
        if unused:
            notes.append(f"{len(unused)} recordings of {_place(folder / 'wav.scp', root)} are in no segment")
    else:
        cuts = {id_: (id_, float("nan"), float("nan")) for id_ in recordings}
    speaker_file = _required(folder, ("utt2spk",))
    speakers = _read(speaker_file, root, errors)
    label_file = _required(folder, _LABELS)
    labels = _read(label_file, root, errors)
    genders = _genders(folder, root, speakers, errors)
    rows = []
    source = "segments" if (folder / "segments").is_file() else "wav.scp"
    for id_, (recording, start, end) in cuts.items():
        lacking = [path.name for path, ids in ((speaker_file, speakers), (label_file, labels)) if id_ not in ids]
        if recording not in recordings:
            errors.append((id_, f"recording {recording!r} is in {source}, but not in wav.scp"))
        elif lacking:
            errors.append((id_, f"is in {source}, but not in {' and '.join(lacking)}"))
        else:
            rows.append(
                {
                    "utterance_id": id_,
                    "path": recordings[recording],
                    "start": start,
                    "end": end,
                    "speaker": speakers[id_],
                    "gender": genders.get(id_, ""),
                    "label": labels[id_],
                    "folder": folder.name,
                }
            )
    known = cuts.keys() | {id_ for id_, _ in errors}
    for path, ids in ((speaker_file, speakers), (label_file, labels)):
        errors += [(id_, f"is in {path.name}, but not in {source}") for id_ in ids if id_ not in known]
    columns = ["utterance_id", "path", "start", "end", "speaker", "gender", "label", "folder"]
    return pd.DataFrame(rows, columns=columns)


def _recordings(folder: Path, root: Path, errors: _Errors) -> dict[str, str]:
    """Return the audio file of each recording.

    Raises:
        UserError: If ``wav.scp`` has commands or archives.
    """
    path = folder / "wav.scp"
    lines = _read(path, root, errors)
    foreign = {id_: line for id_, line in lines.items() if line.endswith("|") or ".ark:" in line}
    if foreign:
        id_, line = next(iter(foreign.items()))
        command = line.removesuffix("|").strip() if line.endswith("|") else f"wav-copy {line} -"
        raise UserError(
            f"{path} names {len(foreign)} commands or archives instead of files, the first: {line[:200]!r} of {id_!r}. "
            f"They are not executed. Write the audio into files, such as: {command[:200]} > {id_}.wav; then write "
            f"'{id_} {id_}.wav' into wav.scp."
        )
    base = folder
    relative = [line for line in lines.values() if not Path(line).is_absolute()]
    if relative:
        bases = (folder, *folder.parents)
        base = next((base for base in bases if any((base / line).is_file() for line in relative)), folder)
    return {id_: os.path.normpath(base / line) for id_, line in lines.items()}


def _segments(path: Path, root: Path, errors: _Errors) -> dict[str, tuple[str, float, float]]:
    """Return the recording, the start and the end in seconds (NaN: that of the recording) of each utterance."""
    cuts: dict[str, tuple[str, float, float]] = {}
    for id_, line in _read(path, root, errors).items():
        try:
            recording, start, end = line.split()
            cuts[id_] = recording, float(start), float("nan") if float(end) == -1 else float(end)
        except ValueError:
            errors.append((id_, f"{_place(path, root)}: {line!r} is not RECORDING START END"))
    return cuts


def _genders(folder: Path, root: Path, speakers: Mapping[str, str], errors: _Errors) -> dict[str, str]:
    """Return the gender of each utterance for which one of the two files knows it."""
    if (folder / "utt2gender").is_file():
        return _read(folder / "utt2gender", root, errors)
    if (folder / "spk2gender").is_file():
        genders = _read(folder / "spk2gender", root, errors)
        return {id_: genders[speaker] for id_, speaker in speakers.items() if speaker in genders}
    return {}


def _required(folder: Path, names: tuple[str, ...]) -> Path:
    """Return the first of some files that exists.

    Raises:
        UserError: If none does.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no {' or '.join(names)}. Expected: {_LAYOUT}.")


def _read(path: Path, root: Path, errors: _Errors) -> dict[str, str]:
    """Return what follows the id in each line of a file; blank lines are skipped."""
    values: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        id_, *rest = line.split(maxsplit=1)[:2] or [""]
        if not id_:
            continue
        value = rest[0].strip() if rest else ""
        if not value:
            errors.append((f"{_place(path, root)}:{number}", f"{id_!r} has no value"))
        elif id_ in values:
            errors.append((f"{_place(path, root)}:{number}", f"{id_!r} is in an earlier line as well"))
        else:
            values[id_] = value
    return values


def _place(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
