"""Corpora listed in a table of your own: CSV, JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path

from ser.corpora.loader_result import LoaderResult
from ser.corpora.tables.columns import role_of
from ser.corpora.tables.files import read_table
from ser.corpora.tables.published import from_emobox
from ser.corpora.tables.result import result_of
from ser.utils.errors import UserError, shown


def load_table(path: Path, *, audio: str = "", columns: str = "", names: str = "", speaker: str = "") -> LoaderResult:
    """Load a corpus from a table with one row for each utterance; no audio is decoded.

    Needed are the name of the audio file, the speaker and the label or votes; ``SYNONYMS`` of ``ser.corpora.tables``
    has the names of columns that are understood, without case, blanks, ``_`` and ``-``. Optional are ``utterance_id``
    (default: the name of the file without its suffix, with the cut), ``start`` and ``end`` or ``duration`` (seconds,
    ``hh:mm:ss``, or as pandas writes a Timedelta; blank stands for the whole file), ``gender``, ``session``,
    ``official_subset`` (the published split), and ``true_label``. Names are read as text, so that speaker ``007`` keeps
    its zeros. Notes say which column was taken for what, and which are not used.

    Votes may be counts or shares for each class (in columns called like the class, or ``votes_<class>``), one column
    ``votes`` with a list for each row in the order of the classes (in CSV as JSON, ``[2, 0, 1]``), one column with the
    labels of each rater (``rater_1``, ``annotator_A``), or one row for each utterance and rater (a column ``rater``).
    Shares become counts with a column of the number of raters, or with the smallest number that fits. Without a label,
    the class with most votes is the label, and ties are outside the classes.

    The classes are those of the columns with votes in the file's order or, without such columns, all labels sorted.

    Label files of the study that this one builds on are accepted as well. They have ``wavfile``, ``noisy-label`` and
    ``audio-path``: the last two become ``label`` and ``path``, ``ground-truth`` becomes ``true_label``, and
    ``wavfile`` without its suffix the utterance id. Where ``speaker`` is missing and all ids are IEMOCAP's, speaker,
    gender and session are taken from the ids. ``timestamps`` are not used as cuts, and ``soft-gt``, which has no
    counts, not as votes. The metadata of EmoBox get their speakers and classes from the files next to them.

    Args:
        path: A file that ``ser.corpora.tables.files.read_table`` reads.
        audio: The folder where relative names of audio files begin; empty is the table's folder, or the nearest one
            above it where a file exists.
        columns: Columns for roles that names do not decide, ``ROLE=COLUMN,…``, such as ``label=emotion_2``; nothing
            after the = means that no column has the role.
        names: A file of other names for speakers, sessions, classes and genders, with the columns ``column``, ``old``
            and ``new``.
        speaker: A regular expression that finds the speaker in the name of the audio file, where no column names it.

    Returns:
        The rows, of a corpus named ``table`` with the folder where names of audio files begin as its root.

    Raises:
        UserError: If the file cannot be read or has no rows, or an option is wrong.
        DataErrors: If columns are missing, repeated or contradictory.
    """
    frame, binary = read_table(path)
    frame, notes = from_emobox(frame, path.parent)
    if binary and "path" not in map(role_of, frame.columns):
        raise UserError(f"table {path} holds audio in its columns {', '.join(binary)}. Pass it as corpus huggingface.")
    folder = Path(audio).expanduser().absolute() if audio else None
    if folder is not None and not folder.is_dir():
        raise UserError(f"--corpus-options audio={shown(audio)} is not a folder. Pass the folder of the audio files.")
    return result_of(
        frame,
        name="table",
        where=f"table {path}",
        folder=path.parent,
        audio=folder,
        notes=notes,
        columns=columns,
        names=Path(names).expanduser().absolute() if names else None,
        speaker=speaker,
        source=path,
    )
