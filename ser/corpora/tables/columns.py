"""The roles of a table's columns, found by the names that people give them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ser.corpora.tables.cells import is_missing, text
from ser.utils.errors import UserError, shown, unknown_name


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "path": _words(
        "file filename filepath fname wav wavfile wavname "
        "wavpath audio audiofile audiofilename audiofilepath audiopath clip clipname soundfile"
    ),
    "speaker": _words(
        "spk spkr spkid spkrid speakerid speakername actor "
        "actorid subject subjectid participant participantid talker talkerid"
    ),
    "label": _words(
        "emotion emo emoclass class classname category target emotionclass emotionlabel emotionname labelname"
    ),
    "utterance_id": _words("uttid key id segmentid fileid clipid sampleid"),
    "start": _words("begin onset starttime begintime startsec startseconds"),
    "end": _words("stop offset endtime stoptime endsec endseconds"),
    "duration": _words("dur length"),
    "gender": _words("sex speakergender speakersex spkrgender spkgender actorgender actorsex"),
    "session": _words(
        "sessionid recording recordingid dialog dialogid dialogue dialogueid conversation conversationid"
    ),
    "official_subset": _words("split splitset splits subset partition set fold datasplit"),
    "true_label": (),
    "other_votes": (),
    "raters": _words("nraters numraters numberofraters nannotators numannotators numberofannotators annotators"),
    "annotator": _words(
        "rater raterid annotatorid worker workerid evaluator "
        "evaluatorid judge judgeid coder coderid listener listenerid"
    ),
}
"""Role → names of columns that have it, without case, blanks, ``_`` and ``-``; the role itself is another."""

_LAST_RESORT = {"path": _words("name utterance utteranceid utt uttid segment segmentid key id unnamed0 unnamed1 index")}
"""Names that are taken only where no other column has the role."""

_OWN_FORMAT = {"path", "speaker", "label"}

CHOICES = (*SYNONYMS, "votes")
"""Keys of the option ``columns``."""

_MISSPELT = 0.75  # similarity at which another column is proposed


def bare(name: str) -> str:
    """Return the name of a column without case, blanks and punctuation.

    Example:
        >>> bare("Speaker_ID"), bare("speaker-id")
        ('speakerid', 'speakerid')
    """
    return re.sub(r"[\W_]+", "", name.casefold())


_ROLE = {word: role for role, words in SYNONYMS.items() for word in (bare(role), *words)}


def role_of(name: object) -> str | None:
    """Return the role of a column by its name alone, or None.

    Example:
        >>> role_of("File Name"), role_of("age")
        ('path', None)
    """
    return _ROLE.get(bare(str(name)))


def parse_choices(option: str, columns: Sequence[str]) -> dict[str, str]:
    """Parse the option ``columns``: ROLE=COLUMN pairs; no column means that none has the role.

    Args:
        option: Such as ``label=emotion_2,gender=``.
        columns: The table's columns.

    Raises:
        UserError: If a pair has no =, or names no role or no column.

    Example:
        >>> parse_choices("label=Emotion 2,gender=", ["file", "emotion_2"])
        {'label': 'emotion_2', 'gender': ''}
    """
    chosen: dict[str, str] = {}
    for pair in filter(None, option.split(",")):
        role, equals, column = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UserError(f"--corpus-options columns: {shown(pair)} is not ROLE=COLUMN, such as label=emotion_2.")
        if role not in CHOICES:
            raise unknown_name("role in --corpus-options columns:", role, CHOICES)
        same = [name for name in columns if name == column] or [name for name in columns if bare(name) == bare(column)]
        if column and not same:
            raise unknown_name(f"column in --corpus-options columns={role}=:", column, columns)
        chosen[role] = same[0] if column else ""
    return chosen


def find_roles(frame: pd.DataFrame, chosen: Mapping[str, str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Find the column that has each role.

    The name of the role itself wins, then synonyms. Two columns that claim one role with different contents are an
    error; of columns with the same content the first is taken. Columns of structures and bytes have no role.

    Args:
        frame: Columns with distinct names.
        chosen: From ``parse_choices``; other columns are not considered for these roles.

    Returns:
        Role → column; and (columns, what is wrong) for each role that several columns claim.
    """
    roles = {role: column for role, column in chosen.items() if column and role in SYNONYMS}
    usable = [name for name in frame.columns if _holds_texts(frame[name])]
    errors = [
        (column, f"holds lists or bytes, which are no {role}") for role, column in roles.items() if column not in usable
    ]
    for role, words in SYNONYMS.items():
        if role in chosen:
            continue
        free = [name for name in usable if name not in roles.values()]
        claims = [name for name in free if name == role] or [name for name in free if bare(name) == bare(role)]
        by_name = bool(claims)
        claims = claims or [name for name in free if bare(name) in words]
        if role == "utterance_id" and set(frame.columns) >= _OWN_FORMAT:
            claims = claims if by_name else []  # the names of utterances stay those of earlier versions
        if not claims and role in _LAST_RESORT:
            claims = [name for name in free if bare(name) in _LAST_RESORT[role]]
        if not by_name:
            claims = [name for name in claims if _may_be(role, frame[name])]
        first, *others = claims or [""]
        different = [name for name in others if not frame[name].map(text).equals(frame[first].map(text))]
        if different and role != "utterance_id":
            names = [first, *different]
            errors.append(
                (
                    " and ".join(names),
                    f"may all be the {role}; choose one: --corpus-options columns={role}={different[0]}, or rename "
                    f"one to {role}",
                )
            )
        if first:
            roles[role] = first
    if "start" not in roles and "duration" in roles and bare(roles.get("end", "")) == "offset":
        roles["start"] = roles.pop("end")  # as in the manifests of NeMo
    return roles, errors


def _holds_texts(cells: pd.Series) -> bool:
    value = next((cell for cell in cells if not is_missing(cell)), "")
    return not isinstance(value, dict | list | tuple | bytes | bytearray)


def _may_be(role: str, cells: pd.Series) -> bool:
    """Return whether the content of a column fits a role that its name alone does not prove."""
    texts = [text(cell) for cell in cells]
    if role == "utterance_id":
        return len({*texts}) == len(texts) and all(texts) and not all(map(_is_number, texts))
    if role == "official_subset":
        return not all(map(_is_number, filter(None, texts)))
    return True


def _is_number(word: str) -> bool:
    return word.lstrip("+-").replace(".", "", 1).isdecimal()


def missing_column(role: str, columns: Iterable[str]) -> tuple[str, str]:
    """Return the error for a role that no column has, with a column that may be meant.

    Args:
        role: Such as ``label``.
        columns: The table's columns.

    Example:
        >>> missing_column("label", ["file", "lable"])
        ('label', "column missing; is 'lable' meant? Then: --corpus-options columns=label=lable")
    """
    words = (bare(role), *SYNONYMS.get(role, ()))

    def likeness(name: str) -> float:
        return max(difflib.SequenceMatcher(None, word, bare(name)).ratio() for word in words)

    near = max((name for name in columns if name != role), key=likeness, default="")
    is_near = near and likeness(near) >= _MISSPELT
    hint = f"; is {near!r} meant? Then: --corpus-options columns={role}={near}" if is_near else ""
    return role, f"column missing{hint}"
