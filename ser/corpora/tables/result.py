"""The rows of a corpus from a table with any of the known column names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ser.corpora.corpus import OFFICIAL_SUBSETS, count_votes
from ser.corpora.loader_result import LoaderResult
from ser.corpora.names import NearEqualNames, gender_notes, gender_of, near_equal, rename
from ser.corpora.repeats import row_names
from ser.corpora.source_files import official_subset
from ser.corpora.speaker_patterns import find_speakers, missing_speakers
from ser.corpora.tables.cells import number, parsed, seconds, text
from ser.corpora.tables.columns import find_roles, missing_column, parse_choices
from ser.corpora.tables.paths import find_audio, nearest_folder
from ser.corpora.tables.published import from_ancestor
from ser.corpora.tables.votes import VOTES, TableVotes, find_votes, plurality
from ser.utils.errors import DataErrors, UserError, listed, shown

TIE = "tie"
"""Utterances without a label, of which several classes have most votes, in ``Corpus.outside``."""
UNHEARD = "without votes"
"""Utterances without a label and without votes, in ``Corpus.outside``."""

_OTHER = "other"
_TEXTS = ("utterance_id", "path", "speaker", "label", "gender", "session", "true_label", "official_subset")
_RENAMED = ("speaker", "label", "gender", "session", "true_label")
_SHOWN = 12  # columns in a note
_ADVICE = (
    "Votes can be left out with --corpus-options columns=votes= ; a column raters gives the number of raters that "
    "shares are of."
)

_Errors = list[tuple[int, str]]


def result_of(
    frame: pd.DataFrame,
    *,
    name: str,
    where: str,
    folder: Path,
    audio: Path | None = None,
    notes: Sequence[str] = (),
    columns: str = "",
    names: Path | None = None,
    speaker: str = "",
    source: Path | None = None,
) -> LoaderResult:
    """Return the rows of a corpus from a table with one row for each utterance, or for each vote; no audio is decoded.

    Args:
        frame: Columns under any of the names that ``SYNONYMS`` has, and votes, as ``load_table`` describes them; cells
            are text or values.
        name: The corpus's name.
        where: What was read, for messages, such as ``"table /data/calls.csv"``.
        folder: Relative names of audio files begin here or at the nearest folder above it where one of them exists.
        audio: Where relative names begin instead.
        notes: Lines for people about how the table was read.
        columns: Columns for roles that names do not decide, such as ``label=emotion_2,gender=``.
        names: A file of other names for speakers, sessions, classes and genders, as ``ser.corpora.names.rename`` reads.
        speaker: A regular expression that finds the speaker in the name of the audio file, where no column names it.
        source: The file or folder that the user named; None is ``folder``.

    Returns:
        The rows; the root is the folder where relative names begin. Notes say which column was taken for what.

    Raises:
        UserError: If there are no rows, nothing names the speakers, or an option is wrong.
        DataErrors: If columns are missing, repeated or contradictory.
    """
    frame = frame.reset_index(drop=True).astype(object)
    frame.columns = pd.Index([text(column) for column in frame.columns])
    if frame.empty:
        raise UserError(f"{where} has no rows.")
    found = list(frame.columns)
    frame = from_ancestor(frame)
    repeated = [(column, "column appears more than once") for column in frame.columns[frame.columns.duplicated()]]
    frame = frame.loc[:, ~frame.columns.duplicated()]
    chosen = parse_choices(columns, list(frame.columns))
    roles, faults = find_roles(frame, chosen)
    votes = _votes(frame, roles, chosen, faults)
    if faults or repeated:
        faults += [missing_column("speaker", found)] if "speaker" not in roles and not speaker else []
        raise DataErrors(where, [*faults, *repeated], f"Columns found: {listed(found, most=50)}.")

    table, row_errors = _cells(frame, roles, where)
    row_errors += votes.errors if votes else ()
    lines = [*notes, *_column_notes(frame, roles, votes), *(votes.notes if votes else ())]
    subsets = set(table.get("official_subset", ())) - {""}
    if subsets and {*subsets, ""} != {*OFFICIAL_SUBSETS}:
        names_of = ", ".join(sorted(subsets))
        lines.append(f"rows of the subsets {names_of} are put together: train, validation and test are not all there")
    root = audio or nearest_folder(table["path"].tolist(), folder)
    table["path"], about_audio = find_audio(table["path"].tolist(), root)
    lines += about_audio
    if "speaker" not in table:
        speakers, genders, more = _speakers(table, name, source or folder, root, speaker)
        table = table.assign(speaker=speakers, gender=table.get("gender", genders))
        row_errors += more
    if names is not None:
        table, votes = _renamed(table, votes, names)
    if "gender" in table:
        lines += gender_notes(range(len(table)), table["gender"])  # of words; speakers are checked in the corpus
        table["gender"] = table["gender"].map(gender_of)

    # Every row needs a name by which it can be excluded.
    table["utterance_id"] = [id_ or f"row {row}" for row, id_ in enumerate(table["utterance_id"], start=1)]
    one_row_each = "annotator" not in roles
    row_name = dict(enumerate(row_names(table, root) if one_row_each and row_errors else table["utterance_id"]))
    errors: list[tuple[str, str]] = []
    annotations = None
    if votes is not None and votes.said is not None:
        annotations = _annotations(votes.said, table)
    elif not one_row_each:
        said = {"row": range(len(table)), "annotator": frame[roles["annotator"]].map(text), "label": table["label"]}
        annotations = _annotations(pd.DataFrame(said), table).drop(columns="row")  # rows are votes here
        table, contradictions = _one_row_each(table.drop(columns="label"))
        errors += contradictions
    if annotations is not None:
        _check_words(annotations, table.get("label", ()), where)
    table, classes, outside = _labelled(table, votes, annotations, {row for row, _ in row_errors})
    if one_row_each and row_errors:
        row_name |= dict(zip(table.index, row_names(table, root), strict=True))  # as the corpus names what is left
    errors = [*((row_name[row], problem) for row, problem in row_errors), *errors]
    if annotations is not None:
        lines += _foreign_votes(annotations, classes or ())
    elif classes:
        _check_spelling(table["label"], classes, where)
    return LoaderResult(
        name,
        where,
        table,
        classes,
        root,
        [*errors, *(votes.column_errors if votes else ())],
        _ADVICE if votes is not None and (votes.errors or votes.column_errors) else "",
        annotations=annotations,
        outside=outside,
        notes=tuple(lines),
    )


def _votes(
    frame: pd.DataFrame, roles: dict[str, str], chosen: Mapping[str, str], faults: list[tuple[str, str]]
) -> TableVotes | None:
    """Find the votes of a table; drop the role of annotators if it has one row for each utterance.

    Args:
        frame: N rows.
        roles: Role → column.
        chosen: As for ``find_roles``.
        faults: (column, what is wrong); faults found are appended.
    """
    if "annotator" in roles and not ("label" in roles and _is_long(frame, roles)):
        del roles["annotator"]
    free = [column for column in frame.columns if column not in roles.values()]
    labels = frame[roles["label"]].map(text).tolist() if "label" in roles else None
    votes = None
    if "annotator" not in roles and chosen.get("votes") != "":
        raters = list(frame[roles["raters"]]) if "raters" in roles else None
        votes = find_votes(frame, free, labels, raters)
    labelled = "label" in roles or (votes is not None and (votes.said is not None or votes.classes is not None))
    faults += [missing_column("path", free)] if "path" not in roles else []
    faults += [missing_column("label", free)] if not labelled else []
    counted = [column for column in free if column.startswith(VOTES) and column != VOTES]
    if counted and "votes" in free:
        faults.append(("votes", f"give either this column or {listed(counted, most=_SHOWN)}, not both"))
    return votes


def _is_long(frame: pd.DataFrame, roles: Mapping[str, str]) -> bool:
    """Return whether utterances have several rows, one for each annotator."""
    key = (
        [roles["utterance_id"]]
        if "utterance_id" in roles
        else [roles[c] for c in ("path", "start", "end") if c in roles]
    )
    return bool(key) and bool(frame[key].map(text).duplicated().any())


def _cells(frame: pd.DataFrame, roles: Mapping[str, str], where: str) -> tuple[pd.DataFrame, _Errors]:
    """Return the columns of ``Corpus.table`` but the votes, and (row, what is wrong) for each cell that is not read.

    Unreadable cells become blank, so that the corpus's own checks still run and all errors are reported at once.
    """
    table = pd.DataFrame({role: frame[roles[role]].map(text).astype(object) for role in _TEXTS if role in roles})
    errors: _Errors = []
    blank = pd.Series(np.nan, frame.index)
    for role in ("start", "end"):
        table[role] = parsed(frame[roles[role]] if role in roles else blank, seconds, np.nan, role, errors)
    if "end" not in roles and {"start", "duration"} <= set(roles):
        table["end"] = table["start"] + parsed(frame[roles["duration"]], seconds, np.nan, "duration", errors)
    if "start" in roles:
        # audformat writes a whole file as 0 days to NaT.
        whole = (table["start"] == 0) & table["end"].isna() & frame[roles["start"]].map(_is_timedelta)
        table.loc[whole, "start"] = np.nan
    if "other_votes" in roles:
        table["other_votes"] = parsed(frame[roles["other_votes"]], _count, np.nan, "other_votes", errors).fillna(0)
    if "true_label" in table:
        table["true_label"] = table["true_label"].where(table["true_label"] != "", None)
    if "official_subset" in table:
        table["official_subset"] = _subsets(table["official_subset"], roles["official_subset"], where)
    if "utterance_id" not in table:
        table["utterance_id"] = [_default_id(*cells) for cells in table[["path", "start", "end"]].to_numpy()]
    else:
        errors += [(row, "utterance_id is blank") for row in np.flatnonzero(table["utterance_id"] == "").tolist()]
    return table, errors


def _is_timedelta(cell: object) -> bool:
    return isinstance(cell, pd.Timedelta | np.timedelta64) or "day" in text(cell)


def _count(cell: object) -> float:
    found = number(cell)
    if found < 0 or (not np.isnan(found) and not found.is_integer()):
        raise ValueError(f"{shown(text(cell))} is not a count")
    return found


def _subsets(words: pd.Series, column: str, where: str) -> list[str]:
    """Return the subset that each word stands for."""
    subsets: dict[str, str] = {}
    errors = []
    for word, uses in Counter(words).items():
        try:
            subsets[word] = official_subset(word)
        except ValueError as error:
            errors.append((column, f"{error} ({uses} rows)"))
    if errors:
        advice = (
            "Rename these words, or leave the split out: --corpus-options columns=official_subset= (with nothing after "
            "the last =)."
        )
        raise DataErrors(where, errors, advice)
    return [subsets[word] for word in words]


def _default_id(path: str, start: float, end: float) -> str:
    stem, _, suffix = path.rpartition(".")
    has_suffix = stem and stem[-1] != "/" and suffix and "/" not in suffix and not suffix.isdecimal()  # not "call.7"
    name = Path(stem if has_suffix else path).as_posix() if path else ""
    if np.isnan(start) and np.isnan(end):
        return name
    return f"{name}@{0.0 if np.isnan(start) else start}-{'' if np.isnan(end) else end}"


def _column_notes(frame: pd.DataFrame, roles: Mapping[str, str], votes: TableVotes | None) -> list[str]:
    """Say which column was taken for what, unless all have the names of their roles and all are used."""
    used = [role for role in roles if role not in ("duration", "raters") or _is_used(role, roles, votes)]
    taken = [f"{roles[role]} as {role}" for role in used if roles[role] != role]
    if votes is not None and votes.columns:
        columns = listed(list(votes.columns), most=_SHOWN)
        taken += [f"votes from {columns}"] if any(not column.startswith(VOTES) for column in votes.columns) else []
    known = {*(roles[role] for role in used), *(votes.columns if votes is not None else ())}
    unused = [column or "(without a name)" for column in frame.columns if column not in known]
    parts = [", ".join(taken)] if taken else []
    parts += [f"not used: {listed(unused, most=_SHOWN)}"] if unused else []
    return [f"columns: {'; '.join(parts)}"] if parts else []


def _is_used(role: str, roles: Mapping[str, str], votes: TableVotes | None) -> bool:
    if role == "duration":
        return "start" in roles and "end" not in roles
    return votes is not None


def _speakers(
    table: pd.DataFrame, name: str, source: Path, root: Path, pattern: str
) -> tuple[list[str], list[str], _Errors]:
    """Return the speakers and genders that a regular expression finds in the names of the audio files."""
    paths = [path.removeprefix(f"{root.as_posix().rstrip('/')}/") for path in table["path"]]
    if not pattern:
        labels = table["label"].tolist() if "label" in table else [""] * len(table)
        alternative = "Or name the column that holds the speakers: --corpus-options columns=speaker=COLUMN."
        raise missing_speakers(name, source, paths, labels, alternative)
    speakers, genders, _ = find_speakers(pattern, paths)
    errors = [(row, f"speaker={pattern} is not found in this name") for row, who in enumerate(speakers) if not who]
    return [who or "" for who in speakers], genders, errors


def _renamed(table: pd.DataFrame, votes: TableVotes | None, file: Path) -> tuple[pd.DataFrame, TableVotes | None]:
    """Rename speakers, sessions, classes and genders by a file."""
    words = []
    if votes is not None:
        words = list(votes.classes or () if votes.said is None else dict.fromkeys(votes.said["label"]))
    columns = [column for column in _RENAMED if column in table]
    frame = table[columns].assign(**{f"{VOTES}{word}": 0 for word in words})
    frame = rename(frame, file)
    new = dict(zip(words, (column.removeprefix(VOTES) for column in frame.columns[len(columns) :]), strict=True))
    if votes is not None:
        votes = votes.renamed(new)
    return table.assign(**{column: frame[column] for column in columns}), votes


def _annotations(said: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return votes as in ``LoaderResult.annotations``; blank labels are no votes, blank annotators are anonymous."""
    said = said[said["label"] != ""]
    rows = said["row"].to_numpy(dtype=int)
    ids, labels = table["utterance_id"].to_numpy()[rows], said["label"].to_numpy()
    who = [annotator or None for annotator in said["annotator"]]
    return pd.DataFrame({"utterance_id": ids, "annotator": who, "label": labels, "is_self": False, "row": rows})


def _one_row_each(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Return the first row of each utterance, and an error for each other row that says something else."""
    first = table.drop_duplicates("utterance_id").reset_index(drop=True)
    errors = []
    for column in ("path", "start", "end", "speaker", "gender", "session", "official_subset", "true_label"):
        if column in table:
            values = table.groupby("utterance_id", sort=False)[column].unique()
            errors += [
                (str(id_), f"rows of one utterance differ in {column}: {listed(list(map(str, names)), most=5)}")
                for id_, names in values.items()
                if len(names) > 1
            ]
    return first, errors


def _check_spelling(labels: pd.Series, classes: Sequence[str], where: str) -> None:
    """Raise ``NearEqualNames`` if labels write classes in another way than the columns of votes."""
    uses = Counter(label for label in labels if label)
    found = [
        [(name, uses[name]) for name in sorted(group, key=lambda name: name not in classes)]
        for group in near_equal({*uses, *classes}, emotions=True)
        if any(name in classes for name in group) and any(name not in classes for name in group)
    ]
    if found:
        raise NearEqualNames(where, {"label": found})


def _check_words(annotations: pd.DataFrame, labels: Iterable[str], where: str) -> None:
    """Raise ``NearEqualNames`` if raters write a class in several ways, so that its votes would be split."""
    uses = Counter(annotations.drop_duplicates(["utterance_id", "label"])["label"]) | Counter(labels)
    groups = [sorted(group, key=lambda name: -uses[name]) for group in near_equal(filter(None, uses))]
    if groups:
        raise NearEqualNames(where, {"label": [[(name, uses[name]) for name in group] for group in groups]})


def _foreign_votes(annotations: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """Say which votes are for none of the classes."""
    words = Counter(annotations["label"][~annotations["label"].isin(classes)])
    if not words:
        return []
    return [f"votes for no class: {listed([f'{shown(word)} ({n})' for word, n in words.most_common()], most=_SHOWN)}"]


def _labelled(
    table: pd.DataFrame, votes: TableVotes | None, annotations: pd.DataFrame | None, unread: set[int]
) -> tuple[pd.DataFrame, tuple[str, ...] | None, Counter[str]]:
    """Add votes, and labels by plurality where there are none.

    Args:
        table: N rows.
        votes: Votes by class; None if there are none, or those of ``annotations``.
        annotations: As ``LoaderResult.annotations``.
        unread: Rows with cells that could not be read; they cannot be labelled.

    Returns:
        The rows that have a label, with their index; the classes, None for the sorted labels; the number of others by
        reason.
    """
    outside: Counter[str] = Counter()
    key = "utterance_id"
    if annotations is not None:
        if "row" in annotations:  # several rows may have one utterance id: each has the votes of its own
            key, table = "row", table.assign(row=table.index)
        said: dict[Hashable, Counter[str]] = {one: Counter() for one in table[key]}
        for one, word in zip(annotations[key], annotations["label"], strict=True):
            said[one][word] += 1
        tallies: list[Mapping[str, float]] = [said[one] for one in table[key]]
    elif votes is not None:
        classes = votes.classes or ()
        others = votes.others or [0.0] * len(table)
        tallies = [
            {} if counts is None else {**dict(zip(classes, counts, strict=False)), _OTHER: other}
            for counts, other in zip(votes.counts, others, strict=True)
        ]
        counts = [None] * len(table) if votes.are_labels else list(votes.counts)
        table["votes"] = pd.Series(counts, table.index, dtype=object)
        if votes.others is not None and any(votes.others):
            table["other_votes"] = votes.others
    else:
        return table, None, outside
    if "label" not in table:
        labels = [plurality(tally) for tally in tallies]
        reasons = [
            "" if label not in (None, _OTHER) or row in unread else label or (TIE if any(tally.values()) else UNHEARD)
            for row, (label, tally) in enumerate(zip(labels, tallies, strict=True))
        ]
        outside = Counter(filter(None, reasons))
        kept = [not reason and label is not None for reason, label in zip(reasons, labels, strict=True)]
        table = table.assign(label=pd.Series(labels, table.index, dtype=object))[kept]
    if annotations is None:
        return table, votes.classes if votes is not None else None, outside
    truths = [word for word in table.get("true_label", ()) if word]
    names = tuple(sorted({*table["label"], *truths} - {""}))
    counted, more = count_votes(annotations.assign(utterance_id=annotations[key]), table[key].tolist(), names)
    table = table.drop(columns="row", errors="ignore").assign(votes=pd.Series(counted, table.index, dtype=object))
    return (table.assign(other_votes=more) if any(more) else table), names, outside
