"""Tables in the published formats of other projects: the ancestor study's label files, and EmoBox."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from ser.audio import SUFFIXES
from ser.corpora.source_files import read_text
from ser.corpora.tables.cells import text
from ser.utils.errors import UserError

ANCESTOR_COLUMNS = (
    "wavfile",
    "noisy-label",
    "ground-truth",
    "soft-gt",
    "comments",
    "timestamps",
    "audio-path",
)
"""Columns of the label files of the study that this one builds on; ``python -m ser.noise`` writes these and more."""

_ANCESTOR_NAMES = {"audio-path": "path", "noisy-label": "label", "ground-truth": "true_label"}
# Groups: the session, and the letter of the turn; together they are the speaker.
_IEMOCAP = re.compile(r"(Ses[0-9]{2})[FM]_\w+_([FM])\w*")

_EMOBOX_COLUMNS = {"key", "wav", "emo"}
_EMOBOX_SPEAKERS = "data.seg.wrd.stm"
_EMOBOX_SPEAKER = re.compile(r"<id=(.*?),lang=.*?,spk=(.*?),emotion=")
_EMOBOX_LABELS = ("label_map.json", "label_dict.json")


def id_of_file(name: str) -> str:
    """Return the utterance id of an audio file: its name without the suffix of an audio format."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def from_ancestor(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename the columns of the ancestor study's files to those of this package; return other tables unchanged.

    Args:
        frame: Any table.
    """
    if not {"wavfile", "noisy-label", "audio-path"} <= set(frame.columns):
        return frame
    frame = frame.rename(columns=_ANCESTOR_NAMES)
    if not frame.columns.is_unique:
        return frame
    names = [id_of_file(text(cell)) for cell in frame["wavfile"]]
    if "utterance_id" not in frame:
        frame["utterance_id"] = names
    matches = [_IEMOCAP.fullmatch(name) for name in names]
    if "speaker" not in frame and all(matches):
        groups = [(match[1], match[2]) for match in matches if match]
        frame["speaker"] = [session + letter for session, letter in groups]
        frame["gender"], frame["session"] = [letter for _, letter in groups], [session for session, _ in groups]
    return frame.drop(columns=[name for name in ANCESTOR_COLUMNS if name in frame])


def from_emobox(frame: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the speakers and the names of classes that EmoBox keeps in other files; return other tables unchanged.

    Args:
        frame: Any table; EmoBox's have the columns ``key``, ``wav`` and ``emo``.
        folder: Its folder; the other files lie there or one folder above.

    Returns:
        The table, and notes about the files that were read.

    Raises:
        UserError: If one of the files cannot be read.
    """
    if not set(frame.columns) >= _EMOBOX_COLUMNS:
        return frame, ()
    notes = []
    speakers, labels = _next_to(folder, _EMOBOX_SPEAKERS), _next_to(folder, *_EMOBOX_LABELS)
    if speakers is not None and "speaker" not in frame and "spk" not in frame:
        of = dict(_EMOBOX_SPEAKER.findall(read_text(speakers)))
        frame = frame.assign(speaker=[of.get(text(key), "") for key in frame["key"]])
        notes.append(f"speakers from {speakers.name}")
    if labels is not None:
        try:
            names = json.loads(read_text(labels))
        except json.JSONDecodeError as error:
            raise UserError(f"{labels} is not JSON: {error}.") from error
        if isinstance(names, dict):
            frame = frame.assign(emo=[names.get(text(word), text(word)) for word in frame["emo"]])
            pairs = ", ".join(f"{old} is {new}" for old, new in names.items())
            notes.append(f"classes by {labels.name}: {pairs}")
    return frame, tuple(notes)


def _next_to(folder: Path, *names: str) -> Path | None:
    """Return the first of the files in a folder or the one above it, or None."""
    places = (place / name for place in (folder, folder.parent) for name in names)
    return next((path for path in places if path.is_file()), None)
