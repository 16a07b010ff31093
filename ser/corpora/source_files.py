"""Reading of what loaders find on disk: folders, names of audio files, text and CSV files."""

from __future__ import annotations

import csv
import filecmp
import hashlib
import io
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ser.audio import SUFFIXES, AudioFault, full_scale, read_at_own_rate
from ser.utils.errors import DataErrors, UserError
from ser.utils.parallel import in_order

_AUDIO_KINDS = (
    "3gp aac ac3 amr ape au awb caf dss gsm m4a m4b mka mp2 mp4 mpc oga pcm ra raw rf64 snd sph spx tta voc vox w64 "
    "wave weba webm wma wv"
)
OTHER_AUDIO = frozenset(f".{kind}" for kind in _AUDIO_KINDS.split(" "))
"""Suffixes of audio, some of which cannot be read."""

_MOST_KINDS = 8  # in a message
_CONVERT = "this format cannot be read; convert it to WAV or FLAC, for example with ffmpeg"
_PREFERRED = {".wav": 0, ".flac": 1}  # where an utterance is in several formats; the others come after these
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}$")
_MAX_CELL = 2**20  # characters in a cell of a CSV file

_SUBSET_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "validation"),
    **dict.fromkeys(("", "na", "nan", "none"), ""),
}
_TEST_SET = re.compile(r"(?:test|testing|tst)(\d*)")


@dataclass(frozen=True)
class FolderFiles:
    """Files below a folder.

    Args:
        root: The folder.
        names: The files, relative to it, with forward slashes, sorted; hidden ones are left out.
        hidden: The number of hidden files, such as the ``._x`` of macOS, and of hidden folders.
    """

    root: Path
    names: tuple[str, ...]
    hidden: int

    def audio(self, below: str = "") -> list[Path]:
        """Return the files that have the suffix of a readable audio format.

        Args:
            below: A folder in the root; empty for all of it.
        """
        start = f"{below}/" if below else ""
        return [self.root / name for name in self.names if name.startswith(start) and kind_of(name) in SUFFIXES]

    def audio_of(self, start: str) -> str:
        """Return the name of the audio file whose name up to its suffix is given.

        Args:
            start: Such as ``Audios/MSP-PODCAST_0001_0008``.

        Returns:
            The name of a WAV file if it exists or nothing else does.
        """
        return self._audio_by_start.get(start, f"{start}.wav")

    @cached_property
    def _audio_by_start(self) -> dict[str, str]:
        audio = [name for name in self.names if kind_of(name) in SUFFIXES]
        exact = {name.removesuffix(".wav"): name for name in audio if name.endswith(".wav")}
        return {name.rpartition(".")[0]: name for name in audio} | exact

    def summary(self, known: Callable[[str], str] = lambda name: "") -> str:
        """Return the number of files by kind, for a message that nothing of a corpus was found.

        Args:
            known: As for ``unused``.
        """
        counts = Counter(known(name) or kind_of(name) for name in self.names)
        return "Found: " + (
            ", ".join(f"{count} {kind}" for kind, count in counts.most_common(_MOST_KINDS)) or "no file"
        )

    def unused(
        self,
        used: Collection[str],
        reason: str,
        known: Callable[[str], str] = lambda name: "",
        copies: Collection[str] = (),
    ) -> tuple[dict[str, int], tuple[str, ...]]:
        """Count what a loader does not use, and say so of audio.

        Args:
            used: Names, as in ``names``.
            reason: Why audio is not used and what to do, for the note.
            known: Returns the loader's own word for a file that it leaves out on purpose, such as ``"songs"``, or an
                empty string.
            copies: Names of files that are the same recording as a used one.

        Returns:
            The number of files by kind, as ``Corpus.unused``, the largest first; and notes on audio.
        """
        counts = Counter({"hidden": self.hidden})
        audio: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.names:
            if name not in used:
                word = "copies" if name in copies else known(name)
                counts[word or kind_of(name)] += 1
                if not word and kind_of(name) in SUFFIXES | OTHER_AUDIO:
                    audio[kind_of(name)].append(name)
        notes = tuple(
            f"not used: {len(names)} {kind} below {self.root}, for example {names[0]!r}: "
            f"{reason if kind in SUFFIXES else _CONVERT}"
            for kind, names in sorted(audio.items())
        )
        return {kind: count for kind, count in counts.most_common() if count}, notes


def list_files(root: Path) -> FolderFiles:
    """List all files below a folder, through links.

    Args:
        root: The folder.

    Raises:
        UserError: If a folder cannot be read, or a name is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"folder {str(error.filename)!r} cannot be read: {error.strerror}.") from error

    found: list[str] = []
    hidden = 0
    seen: set[tuple[int, int]] = set()  # links may form a circle
    top = str(root)
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        entered = os.stat(folder)  # noqa: PTH116 (a Path for each of many folders takes longer)
        if (entered.st_dev, entered.st_ino) in seen:
            folders.clear()
            continue
        seen.add((entered.st_dev, entered.st_ino))
        hidden += sum(name.startswith(".") for name in (*folders, *files))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        start = f"{os.path.relpath(folder, top)}/" if folder != top else ""
        # A folder that is called like an audio file is one that cannot be read.
        files += [name for name in folders if kind_of(name) in SUFFIXES]
        found += [f"{start}{name}" for name in files if not name.startswith(".")]
    check_names(found)
    return FolderFiles(root, tuple(sorted(found, key=lambda name: name.split("/"))), hidden)


def kind_of(name: str) -> str:
    """Return the suffix of a file in lower case, such as ``.wav``, or ``without suffix``.

    Example:
        >>> kind_of("Actor_01/A.WAV"), kind_of("notes"), kind_of("v1.0/notes"), kind_of("Dr. No")
        ('.wav', 'without suffix', 'without suffix', 'without suffix')
    """
    found = _SUFFIX.search(name)
    return found[0].lower() if found else "without suffix"


def check_names(paths: Iterable[str | Path]) -> None:
    """Raise if a path is not UTF-8, as on copies from old file systems, because no table can hold it.

    Args:
        paths: The paths to check.

    Raises:
        UserError: If a path is not UTF-8; the message gives the number of such paths and the first of them.
    """
    texts = (str(path) for path in paths)
    wrong = [os.fsencode(text) for text in texts if not text.isascii() and re.search("[\udc80-\udcff]", text)]
    if wrong:
        raise UserError(
            f"{len(wrong)} names are not UTF-8, the first: {ascii(min(wrong))[2:-1]}. Rename them, for example with "
            "convmv."
        )


@dataclass(frozen=True)
class Clips:
    """Audio files by utterance.

    Args:
        root: The folder that names are relative to.
        files: Utterance id → its files; several differ, and the first is one that can be decoded, if there is one.
        copies: Names of files that are the same recording as another one of the utterance, and are not used.
        notes: A line on these, if there are any.
    """

    root: Path
    files: dict[str, list[Path]]
    copies: frozenset[str]
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[tuple[str, Path]]:
        """Return (utterance id, file) of each file; ``LoaderResult`` reports several files of one utterance."""
        return [(id_, path) for id_, paths in self.files.items() for path in paths]

    @property
    def names(self) -> set[str]:
        """Return the names of all files in ``files``."""
        return {path.relative_to(self.root).as_posix() for _, path in self.rows}


def separate_copies(files: Mapping[str, Sequence[Path]], root: Path) -> Clips:
    """Leave out files that are the same recording as another one of their utterance.

    Only files of one utterance are compared: by their bytes, and by their decoded samples where the bytes differ, as
    for a WAV file and a FLAC file.

    Args:
        files: Utterance id → its files.
        root: The folder that paths in the note are relative to.
    """
    copies: dict[Path, Path] = {}
    different: dict[str, list[Path]] = {}
    for id_, paths in files.items():
        kept = different[id_] = [paths[0]]
        for path in paths[1:]:
            if same := next((one for one in kept if _same_bytes(one, path)), None):
                copies[path] = same
            else:
                kept.append(path)
    unclear = {id_: paths for id_, paths in different.items() if len(paths) > 1}
    sound_of = dict(in_order(_sound, [path for paths in unclear.values() for path in paths]))
    for id_, paths in unclear.items():
        first: dict[str, Path] = {}
        for path in sorted(paths, key=lambda path: (not sound_of[path], _PREFERRED.get(kind_of(path.name), 2))):
            if (same := first.setdefault(sound_of[path] or str(path), path)) != path:
                copies[path] = same
        different[id_] = list(first.values())
    names = [[one.relative_to(root).as_posix() for one in pair] for pair in copies.items()]
    notes = (
        (f"copies of the same recording, not used: {len(names)}, for example {names[0][0]} of {names[0][1]}",)
        if names
        else ()
    )
    return Clips(root, different, frozenset(name for name, _ in names), notes)


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other) or filecmp.cmp(one, other, shallow=False)
    except OSError:  # such as a link that leads nowhere
        return False


def _sound(path: Path) -> str:
    """Return a digest of a file's samples and their rate; empty if it cannot be decoded."""
    try:
        samples, properties = read_at_own_rate(path)
    except AudioFault:
        return ""
    content = np.ascontiguousarray(full_scale(samples), dtype="<f4")
    return f"{properties.rate} {hashlib.sha256(content.data).hexdigest()}"


def find_clips(
    files: FolderFiles,
    below: str,
    corpus: str,
    layout: str,
    name_problem: Callable[[str], str | None],
    errors: list[tuple[str, str]],
    id_of: Callable[[str], str] = str,
) -> Clips:
    """Find the audio files below a folder, in a corpus whose file names say everything about an utterance.

    Args:
        files: The files below the corpus's folder.
        below: The folder of the audio in it; empty for all of it.
        corpus: The corpus's title, for messages.
        layout: The files that are expected, for messages.
        name_problem: Returns what is wrong with an utterance id, or None.
        errors: Data errors of names are appended.
        id_of: Converts the stem of a file name to an utterance id.

    Raises:
        UserError: If no file has a valid name.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files.audio(below):
        id_ = id_of(path.stem)
        if problem := name_problem(id_):
            errors.append((path.relative_to(files.root).as_posix(), problem))
        else:
            found[id_].append(path)
    if not found:
        wrong = f", but {len(errors)} files with other names, such as {errors[0][0]!r}" if errors else ""
        folder = files.root / below
        raise UserError(f"no clips of {corpus} found below {folder}{wrong}. {files.summary()}. Expected: {layout}.")
    return separate_copies(found, files.root)


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
