"""What loaders read: folders, names of audio files, and tables of text cells."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ser.audio import SUFFIXES
from ser.utils.errors import DataErrors, UserError

LONGEST_CELL = 2**20


def below(root: Path) -> list[Path]:
    """Everything below a folder, sorted, through links; hidden files and folders are passed over.

    Args:
        root: Where to begin.

    Raises:
        UserError: A folder below cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"folder {str(error.filename)!r} cannot be read: {error.strerror}.") from error

    found: list[Path] = []
    seen: set[tuple[int, int]] = set()  # links may lead in circles
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
    """Raises where names are not UTF-8, as copies from old file systems have them: no table could hold them.

    Args:
        paths: What was found.

    Raises:
        UserError: How many, and the first.
    """
    strange = [os.fsencode(path) for path in paths if any("\udc80" <= letter <= "\udcff" for letter in str(path))]
    if strange:
        raise UserError(
            f"{len(strange)} names are not UTF-8, the first: {ascii(min(strange))[2:-1]}. Rename them, with convmv for "
            "instance."
        )


def audio_below(root: Path) -> list[Path]:
    """What is named like audio below a folder, sorted; hidden files are passed over.

    Args:
        root: Where to begin.

    Raises:
        UserError: A folder below cannot be read.
    """
    return [path for path in below(root) if path.suffix.lower() in SUFFIXES]


def copies(files: Mapping[str, Sequence[Path]], root: Path, kind: str) -> list[tuple[str, str]]:
    """The faults of utterances that are in several files.

    Args:
        files: Utterance id → its files.
        root: What their places are told relative to.
        kind: What the corpus calls an utterance, such as ``"clip"``.

    Returns:
        (utterance id, what is wrong), one for each.
    """
    return [
        (id_, f"{len(paths)} files are this {kind}: {', '.join(path.relative_to(root).as_posix() for path in paths)}")
        for id_, paths in files.items()
        if len(paths) > 1
    ]


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.

    Raises:
        UserError: The file is missing, is not UTF-8, or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is not UTF-8 text: {error}.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def csv_rows(path: Path, required: tuple[str, ...], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file whose first line names its columns; cells are stripped text.

    Args:
        path: A UTF-8 file.
        required: Columns that must be there.
        delimiter: What stands between cells.

    Returns:
        An iterator of (line number in the file, column → cell); blank lines are passed over. A row with too few
        cells lacks the last columns' keys; one with too many has the key ``""``.

    Raises:
        UserError: The file cannot be read, is empty, or is no CSV.
        DataErrors: Columns that are missing or appear more than once.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"{str(path)!r}, line {reader.line_num}: {error}.") from error
    finally:
        csv.field_size_limit(before)
    if not lines:
        raise UserError(f"{str(path)!r} is empty.")
    header = lines[0][1]
    faults = [(name, "column missing") for name in required if name not in header]
    faults += [(name, "column appears more than once") for name in required if header.count(name) > 1]
    if faults:
        raise DataErrors(str(path), faults, f"Columns there: {', '.join(header)}.")
    return (
        (number, dict(zip(header, cells, strict=False)) | ({"": cells[-1]} if len(cells) > len(header) else {}))
        for number, cells in lines[1:]
    )
