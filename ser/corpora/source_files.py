"""Reading of what loaders find on disk: folders, names of audio files, text and CSV files."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ser.audio import SUFFIXES
from ser.utils.errors import DataErrors, UserError

_MAX_CELL = 2**20  # characters in a cell of a CSV file

_SUBSET_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "validation"),
    **dict.fromkeys(("", "na", "nan", "none"), ""),
}
_TEST_SET = re.compile(r"(?:test|testing|tst)(\d*)")


def list_below(root: Path) -> list[Path]:
    """List all files and folders below a folder, through links; hidden ones are skipped.

    Args:
        root: The folder.

    Returns:
        The paths, sorted.

    Raises:
        UserError: If a folder cannot be read, or a name is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"folder {str(error.filename)!r} cannot be read: {error.strerror}.") from error

    found: list[Path] = []
    seen: set[tuple[int, int]] = set()  # links may form a circle
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        entered = Path(folder).stat()
        if (entered.st_dev, entered.st_ino) in seen:
            folders.clear()
            continue
        seen.add((entered.st_dev, entered.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder) / name for name in (*folders, *files) if not name.startswith(".")]
    check_names(found)
    return sorted(found)


def check_names(paths: Iterable[Path]) -> None:
    """Raise if a path is not UTF-8, as on copies from old file systems, because no table can hold it.

    Args:
        paths: The paths to check.

    Raises:
        UserError: If a path is not UTF-8; the message gives the number of such paths and the first of them.
    """
    wrong = [os.fsencode(path) for path in paths if any("\udc80" <= letter <= "\udcff" for letter in str(path))]
    if wrong:
        raise UserError(
            f"{len(wrong)} names are not UTF-8, the first: {ascii(min(wrong))[2:-1]}. Rename them, for example with "
            "convmv."
        )


def list_audio(root: Path) -> list[Path]:
    """List the files below a folder that have the suffix of an audio format; hidden ones are skipped.

    Args:
        root: The folder.

    Returns:
        The paths, sorted.

    Raises:
        UserError: If a folder cannot be read, or a name is not UTF-8.
    """
    return [path for path in list_below(root) if path.suffix.lower() in SUFFIXES]


def duplicate_errors(files: Mapping[str, Sequence[Path]], root: Path, kind: str) -> list[tuple[str, str]]:
    """Return a data error for each utterance that is in several files.

    Args:
        files: Utterance id → its files.
        root: The folder that paths in the errors are relative to.
        kind: What the corpus calls an utterance, such as ``"clip"``.

    Returns:
        (utterance id, what is wrong) per error.
    """
    return [
        (id_, f"{len(paths)} files are this {kind}: {', '.join(path.relative_to(root).as_posix() for path in paths)}")
        for id_, paths in files.items()
        if len(paths) > 1
    ]


def find_clips(
    folder: Path,
    root: Path,
    corpus: str,
    layout: str,
    name_problem: Callable[[str], str | None],
    errors: list[tuple[str, str]],
    id_of: Callable[[str], str] = str,
) -> dict[str, list[Path]]:
    """Find the audio files below a folder, in a corpus whose file names say everything about an utterance.

    Args:
        folder: The folder of the audio.
        root: The folder that paths in the errors are relative to.
        corpus: The corpus's title, for messages.
        layout: The files that are expected, for messages.
        name_problem: Returns what is wrong with an utterance id, or None.
        errors: Data errors of names, and of utterances in several files, are appended.
        id_of: Converts the stem of a file name to an utterance id.

    Returns:
        Utterance id → its files.

    Raises:
        UserError: If no file has a valid name.
    """
    clips: dict[str, list[Path]] = defaultdict(list)
    for path in list_audio(folder):
        id_ = id_of(path.stem)
        if problem := name_problem(id_):
            errors.append((path.relative_to(root).as_posix(), problem))
        else:
            clips[id_].append(path)
    if not clips:
        wrong = f", but {len(errors)} files with other names, such as {errors[0][0]!r}" if errors else ""
        raise UserError(f"no clips of {corpus} found below {folder}{wrong}. Expected: {layout}.")
    errors += duplicate_errors(clips, root, "clip")
    return clips


def official_subset(word: str, tests: Collection[str] = ("test", "test1")) -> str:
    """Return the subset of a published split that a word stands for; case, spaces, - and _ do not matter.

    Args:
        word: As the corpus spells it, such as ``Train``, ``dev``, ``Development`` or ``Test1``; blank for no subset.
        tests: The test sets that are tested, such as ``test2``; the others are in no subset.

    Returns:
        ``train``, ``validation``, ``test``, or an empty string for no subset.

    Raises:
        ValueError: If the word stands for no subset, or could be either validation or test, as ``eval``.

    Example:
        >>> [official_subset(word) for word in ("Train", "dev", "Test1", "Test2", "")]
        ['train', 'validation', 'test', '', '']
    """
    bare = re.sub(r"[\s_-]", "", word.casefold())
    if bare in _SUBSET_WORDS:
        return _SUBSET_WORDS[bare]
    if found := _TEST_SET.fullmatch(bare):
        return "test" if f"test{found[1]}" in tests else ""
    raise ValueError(f"{word!r} is not one of train, development, validation, test, test1, test2, … or blank")


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.

    Raises:
        UserError: If the file is missing, is not UTF-8, or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is not UTF-8 text: {error}.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def read_csv_rows(path: Path, required: tuple[str, ...], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV file whose first line names its columns; cells are stripped text.

    Args:
        path: A UTF-8 file.
        required: Columns that must exist.
        delimiter: The character between cells.

    Returns:
        An iterator of (line number in the file, column → cell); blank lines are skipped. A row with too few cells
        lacks the keys of the last columns; one with too many has the key ``""``.

    Raises:
        UserError: If the file cannot be read, is empty, or is not CSV.
        DataErrors: If required columns are missing or repeated.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    previous_limit = csv.field_size_limit(_MAX_CELL)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"{str(path)!r}, line {reader.line_num}: {error}.") from error
    finally:
        csv.field_size_limit(previous_limit)
    if not lines:
        raise UserError(f"{str(path)!r} is empty.")
    header = lines[0][1]
    errors = [(name, "column missing") for name in required if name not in header]
    errors += [(name, "column appears more than once") for name in required if header.count(name) > 1]
    if errors:
        raise DataErrors(str(path), errors, f"Columns found: {', '.join(header)}.")
    return (
        (number, dict(zip(header, cells, strict=False)) | ({"": cells[-1]} if len(cells) > len(header) else {}))
        for number, cells in lines[1:]
    )
