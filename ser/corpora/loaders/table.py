"""Corpora listed in a CSV or Parquet file of your own."""

from __future__ import annotations

from pathlib import Path

from ser.corpora.loader_result import LoaderResult
from ser.corpora.tables.files import read_table
from ser.corpora.tables.result import result_of


def load_table(path: Path) -> LoaderResult:
    """Load a corpus from a table with one row per utterance; no audio is decoded.

    Required columns are ``path`` (relative to the table's folder, or absolute), ``speaker`` and ``label``. Optional
    are ``utterance_id`` (default: the path without its suffix, with the cut), ``start`` and ``end`` (seconds; blank
    stands for the whole file), ``gender`` (female, male, f, m or blank), ``session``, ``true_label``,
    ``official_subset`` (train, validation, test or blank), and votes: either one column ``votes_<class>`` per class
    (blank is 0; all blank means no votes), or one column ``votes`` with a list per row in the order of the classes (in
    CSV as JSON, ``[2, 0, 1]``). Names are read as text, so that speaker ``007`` keeps its zeros. Other columns are
    ignored.

    The classes are those of the ``votes_<class>`` columns in the file's order or, without such columns, all labels
    sorted.

    Label files of the study that this one builds on are accepted as well. They have ``wavfile``, ``noisy-label`` and
    ``audio-path``: the last two become ``label`` and ``path``, ``ground-truth`` becomes ``true_label``, and
    ``wavfile`` without its suffix the utterance id. Where ``speaker`` is missing and all ids are IEMOCAP's, speaker,
    gender and session are taken from the ids. ``timestamps`` are not used as cuts, and ``soft-gt``, which has no
    counts, not as votes.

    Args:
        path: A ``.csv`` (UTF-8, commas), ``.parquet`` or ``.pq`` file.

    Returns:
        The rows, of a corpus named ``table`` with the table's folder as its root.

    Raises:
        UserError: If the file cannot be read or has no rows.
        DataErrors: If columns are missing, repeated or contradictory.
    """
    return result_of(read_table(path), name="table", where=f"table {path}", folder=path.parent)
