"""Files of noisy labels, in the format of the ancestor study: ``hard-RATE-train.csv`` and ``hard-RATE-test.csv``."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from ser.audio import AudioFault
from ser.audio.embedded import content_of
from ser.corpora.corpus import EXCLUDE_ADVICE, SYNTHESIS_RATE, Corpus
from ser.corpora.tables.published import ANCESTOR_COLUMNS, id_of_file
from ser.noise.manifest import NoisyLabels
from ser.utils.errors import DataErrors
from ser.utils.output_files import to_csv

AUDIO = "audio"
"""Folder for the audio of a synthesised corpus."""


def stem(rate: float) -> str:
    """Return the stem of a noise rate's file names: ``hard-26.48`` for .2648.

    Args:
        rate: Requested rate, in [0, 1].
    """
    return f"hard-{(Decimal(repr(float(rate))) * 100).quantize(Decimal('0.01'), ROUND_HALF_UP)}"


def rows_csv(corpus: Corpus, noisy: NoisyLabels, rows: NDArray[np.int64], folder: Path) -> str:
    """Format rows of a corpus as CSV: the ancestor study's columns, then those that corpus ``table`` needs in addition.

    The ancestor's columns are ``wavfile``, ``noisy-label``, ``ground-truth``, ``soft-gt`` (the votes for classes as
    shares, JSON; empty without votes), ``comments``, ``timestamps`` (of the dialogue, else of the cut) and
    ``audio-path``. The others are ``utterance_id``, ``start`` and ``end`` where the first do not imply them,
    ``speaker``, ``gender``, ``session``, and the votes.

    Args:
        corpus: N utterances.
        noisy: Their labels.
        rows: Row positions; the file is in the order of the corpus.
        folder: Absolute path; its folder ``AUDIO`` has the audio of a synthesised corpus.

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
    """Return the path of an utterance's audio; for a synthesised corpus, where ``synthesized`` puts it.

    Args:
        corpus: Any corpus.
        row: Row of its table.
        folder: As for ``rows_csv``.
    """
    if corpus.synthesize is None:
        return Path(corpus.table["path"][row])
    return folder / AUDIO / f"{corpus.table['utterance_id'][row]}.wav"


def synthesized(corpus: Corpus) -> dict[str, bytes]:
    """Return the audio of a synthesised corpus as 16-bit WAV files.

    Args:
        corpus: Any corpus.

    Returns:
        Path below the folder → content; empty for a corpus with audio files.
    """
    if corpus.synthesize is None:
        return {}
    found = {}
    for row, name in enumerate(corpus.table["utterance_id"]):
        content = io.BytesIO()
        # Integer samples, because libsndfile writes the time into WAV files of floats.
        soundfile.write(content, corpus.synthesize(name), SYNTHESIS_RATE, subtype="PCM_16", format="WAV")
        found[audio_file(corpus, row, Path()).as_posix()] = content.getvalue()
    return found


def transition_csv(classes: Sequence[str], rates: ArrayLike) -> str:
    """Format a transition matrix as recipe ``matrix:FILE`` reads it.

    Args:
        classes: The C class names.
        rates: (C, C), true × noisy. A class without utterances, whose row is zeros, keeps its label.

    Returns:
        CSV with LF line ends.
    """
    table = np.array(rates, dtype=float)
    empty = ~table.any(axis=1)
    table[empty] = np.eye(len(classes))[empty]
    lines = ([name, *line] for name, line in zip(classes, table.tolist(), strict=True))
    return to_csv(["", *classes], lines)


def check_copies(corpus: Corpus, subsets: Mapping[str, NDArray[np.int64]]) -> None:
    """Raise if audio files or cells of different subsets are byte-identical; skip missing ones.

    Args:
        corpus: Any corpus.
        subsets: Subset → row positions.

    Raises:
        DataErrors: If there are such files; lists all of them.
    """
    subset_of = {str(corpus.table["path"][row]): name for name, rows in subsets.items() for row in rows}
    sizes: dict[int, list[str]] = defaultdict(list)
    for path in subset_of:
        with suppress(AudioFault):
            content = content_of(path)
            if content is not None or Path(path).is_file():
                sizes[Path(path).stat().st_size if content is None else len(content)].append(path)
    first: dict[bytes, str] = {}
    faults: list[tuple[str, str]] = []
    for path in (path for paths in sizes.values() if len(paths) > 1 for path in paths):
        content = content_of(path)  # an empty cell is not a file
        other = first.setdefault(
            hashlib.blake2b(Path(path).read_bytes() if content is None else content).digest(), path
        )
        if subset_of[other] != subset_of[path]:
            faults.append((path, f"in {subset_of[path]}, is a copy of {other} in {subset_of[other]}"))
    if faults:
        raise DataErrors(f"leak between subsets of corpus {corpus.name!r}", faults, EXCLUDE_ADVICE)


def _spans(table: Any, names: tuple[str, str]) -> list[tuple[float, float]]:
    """Return two columns of seconds, NaN where they are missing."""
    sides = [table[name].astype(float).tolist() if name in table else [math.nan] * len(table) for name in names]
    return list(zip(*sides, strict=True))


def _timestamps(begin: float, end: float) -> str:
    """Format a span as IEMOCAP's files do; a cut without a start begins at 0."""
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
