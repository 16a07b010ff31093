"""Noisy labels as files: the ancestor study's ``hard-RATE-train.csv`` and ``-test.csv``, and what goes with them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from ser.corpora.corpus import EXCLUDE_ADVICE, SYNTHESIS_RATE, Corpus
from ser.corpora.loaders.table import ANCESTOR_COLUMNS, id_of_file
from ser.noise.manifest import NoisyLabels
from ser.utils.errors import DataErrors, UserError

AUDIO = "audio"
"""Folder for the audio of a corpus that is generated."""


def stem(rate: float) -> str:
    """How the files of a noise rate are called: ``hard-26.48`` for .2648.

    Args:
        rate: As asked for, in [0, 1].
    """
    return f"hard-{(Decimal(repr(float(rate))) * 100).quantize(Decimal('0.01'), ROUND_HALF_UP)}"


def rows_csv(corpus: Corpus, noisy: NoisyLabels, rows: NDArray[np.int64], folder: Path) -> str:
    """Some rows of a corpus in the ancestor's columns, and after them those that corpus ``table`` needs besides.

    The first seven are ``wavfile``, ``noisy-label``, ``ground-truth``, ``soft-gt`` (the votes for classes as
    shares, JSON; empty without votes), ``comments``, ``timestamps`` (of the dialogue, else of the cut) and
    ``audio-path``. Then ``speaker``, ``gender``, ``session``; where they tell more, ``utterance_id``, ``start`` and
    ``end``; and the votes.

    Args:
        corpus: N utterances.
        noisy: Their labels.
        rows: Row positions, in the order of the file.
        folder: Absolute; in its ``AUDIO`` lies the audio of a corpus that is generated.

    Returns:
        CSV with LF line ends.
    """
    table = corpus.table
    files = [audio_file(corpus, row, folder) for row in range(len(corpus))]
    spoken = _spans(table, ("dialog_start", "dialog_end"))
    cuts = _spans(table, ("start", "end"))
    columns: dict[str, Sequence[Any]] = {
        "wavfile": [path.name for path in files],
        "noisy-label": noisy.labels.tolist(),
        "ground-truth": noisy.truth.tolist(),
        "soft-gt": [_soft(votes, corpus.classes) for votes in table["votes"]],
        "comments": _texts(table["comments"]) if "comments" in table else [""] * len(table),
        "timestamps": [_timestamps(*span) or _timestamps(*cut) for span, cut in zip(spoken, cuts, strict=True)],
        "audio-path": [str(path) for path in files],
    }
    assert tuple(columns) == ANCESTOR_COLUMNS
    ids = table["utterance_id"].tolist()
    if ids != [id_of_file(path.name) for path in files]:
        columns["utterance_id"] = ids
    if not all(math.isnan(second) for cut in cuts for second in cut):
        columns["start"], columns["end"] = ([_number(second) for second in side] for side in zip(*cuts, strict=True))
    columns |= {name: table[name].tolist() for name in ("speaker", "gender", "session")}
    if any(votes is not None for votes in table["votes"]):
        for index, name in enumerate(corpus.classes):
            columns[f"votes_{name}"] = ["" if votes is None else int(votes[index]) for votes in table["votes"]]
        if "other_votes" in table:
            columns["other_votes"] = corpus.other_votes.tolist()
    lines = zip(*columns.values(), strict=True)
    chosen = set(rows.tolist())
    return to_csv(columns, (line for row, line in enumerate(lines) if row in chosen))


def audio_file(corpus: Corpus, row: int, folder: Path) -> Path:
    """Where an utterance's audio is; for a corpus that is generated, where ``synthesized`` puts it.

    Args:
        corpus: Any corpus.
        row: In its table.
        folder: As for ``rows_csv``.
    """
    if corpus.synthesize is None:
        return Path(corpus.table["path"][row])
    return folder / AUDIO / f"{corpus.table['utterance_id'][row]}.wav"


def synthesized(corpus: Corpus) -> dict[str, bytes]:
    """The audio of a corpus that is generated, as 16-bit WAV.

    Args:
        corpus: Any corpus.

    Returns:
        Path below the folder → content; empty for a corpus that has files.
    """
    if corpus.synthesize is None:
        return {}
    found = {}
    for row, name in enumerate(corpus.table["utterance_id"]):
        content = io.BytesIO()
        # Integer samples: libsndfile stamps the time into WAV files of floats.
        soundfile.write(content, corpus.synthesize(name), SYNTHESIS_RATE, subtype="PCM_16", format="WAV")
        found[audio_file(corpus, row, Path()).as_posix()] = content.getvalue()
    return found


def transition_csv(classes: Sequence[str], rates: ArrayLike) -> str:
    """A transition matrix in the format that recipe ``matrix:FILE`` reads.

    Args:
        classes: The C class names.
        rates: (C, C), true × noisy. A class without utterances, whose row is zeros, is written as kept.

    Returns:
        CSV with LF line ends.
    """
    table = np.array(rates, dtype=float)
    empty = ~table.any(axis=1)
    table[empty] = np.eye(len(classes))[empty]
    lines = ([name, *line] for name, line in zip(classes, table.tolist(), strict=True))
    return to_csv(["", *classes], lines)


def to_json(value: Any) -> str:
    """JSON for people and for comparison: sorted keys, indented."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def to_csv(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """CSV with LF line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    """Texts as UTF-8.

    Args:
        files: Name → text.

    Raises:
        UserError: A name of a file or folder within a text has no characters.
    """
    try:
        return {name: text.encode() for name, text in files.items()}
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 40) : error.end + 20]
        raise UserError(
            f"a file's name is not UTF-8, near {near!r}. Rename it, or the folder that it is in."
        ) from error


def check_copies(corpus: Corpus, parts: Mapping[str, NDArray[np.int64]]) -> None:
    """Raises where a file of one part is, byte for byte, a file of another; files that are missing are passed over.

    Args:
        corpus: Any corpus.
        parts: Part → row positions.

    Raises:
        DataErrors: All such files.
    """
    part_of = {str(corpus.table["path"][row]): part for part, rows in parts.items() for row in rows}
    sizes: dict[int, list[str]] = defaultdict(list)
    for path in part_of:
        if Path(path).is_file():
            sizes[Path(path).stat().st_size].append(path)
    first: dict[bytes, str] = {}
    faults: list[tuple[str, str]] = []
    for path in (path for paths in sizes.values() if len(paths) > 1 for path in paths):
        other = first.setdefault(hashlib.blake2b(Path(path).read_bytes()).digest(), path)
        if part_of[other] != part_of[path]:
            faults.append((path, f"in {part_of[path]}, is a copy of {other} in {part_of[other]}"))
    if faults:
        raise DataErrors(f"leak between parts of corpus {corpus.name!r}", faults, EXCLUDE_ADVICE)


def output_folder(path: Path) -> Path:
    """Makes the folder for what is written; before the work, which may take minutes.

    Args:
        path: As given to ``--output``.

    Returns:
        The absolute path.

    Raises:
        UserError: It cannot be made or written.
    """
    try:
        folder = path.expanduser().absolute()
        str(folder).encode()  # it is written into the files
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, ValueError, RuntimeError) as error:  # NUL or no UTF-8 in the path; a home that is nobody's
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--output {str(path)!r} is not writable: {reason}.") from error


def write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files, all under other names first; what is there with other content stays, and nothing is written.

    Args:
        folder: Is there.
        files: Path below the folder → content. A file that has this content already is left alone.

    Raises:
        UserError: Files are there with other content (names them), or the folder cannot be written.
    """
    try:
        there = [name for name in files if os.path.lexists(folder / name)]
        if other := [name for name in there if not _holds(folder / name, files[name])]:
            more = f" and {len(other) - 5} more" if len(other) > 5 else ""
            raise UserError(
                f"{str(folder)!r} has {', '.join(other[:5])}{more} already, with other content. "
                "Choose another --output, or delete them."
            )
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            missing = [name for name in files if name not in there]
            for index, name in enumerate(missing):
                (Path(partial) / str(index)).write_bytes(files[name])
            for index, name in enumerate(missing):
                (folder / name).parent.mkdir(exist_ok=True)
                (Path(partial) / str(index)).replace(folder / name)
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror or error}.") from error


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _spans(table: Any, names: tuple[str, str]) -> list[tuple[float, float]]:
    """Two columns of seconds, NaN where they are missing."""
    sides = [table[name].astype(float).tolist() if name in table else [math.nan] * len(table) for name in names]
    return list(zip(*sides, strict=True))


def _timestamps(begin: float, end: float) -> str:
    """As in IEMOCAP's own files; a cut that begins with its file begins at 0."""
    if math.isnan(begin) and math.isnan(end):
        return ""
    return f"[{0.0 if math.isnan(begin) else begin:.4f} - {'' if math.isnan(end) else f'{end:.4f}'}]"


def _soft(votes: tuple[int, ...] | None, classes: Sequence[str]) -> str:
    if votes is None:
        return ""
    shares = {name: count / sum(votes) for name, count in zip(classes, votes, strict=True) if count}
    return json.dumps(shares, separators=(",", ":"), ensure_ascii=False)


def _texts(column: Iterable[Any]) -> list[str]:
    return [cell if isinstance(cell, str) else "" for cell in column]


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
