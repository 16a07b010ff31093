"""The features of a whole corpus on disk: computed once, memory-mapped by every trial on a node.

A store is a folder. It is built under a temporary name and renamed when it is complete. Its name contains all that its
content depends on (audio, front end, format, and the sizes and modification times of the files), so a changed file
leads to another folder, and a folder that running trials have mapped is never modified. A build that is interrupted or
killed leaves what it has computed (``ser.features.partial_store``), and the next one resumes it.

Building reads audio; opening does not, and needs NumPy and torch alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser.features.front_ends import Compute, Extractor, FrontEnd, named_extractor
from ser.features.partial_store import FRAMES, RECORD, PartialStore, to_disk
from ser.utils.errors import DataErrors, UserError
from ser.utils.hashing import digest
from ser.utils.output_files import bytes_in, size_text
from ser.utils.parallel import in_order

if TYPE_CHECKING:
    from ser.corpora.corpus import Corpus, Synthesizer

FORMAT = 4
"""Increased whenever the files or the numbers in them change, so that older stores are not read."""

PROBES = 200
"""Utterances whose durations say how large a store will be."""

_OFFSETS, _CONTENT, _LEVELS = "offsets.npy", "content.npy", "levels.npy"
_META = "meta.json"
PARTIAL = ".partial"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Frames of a corpus; rows are those of ``Corpus.table``.

    A pickled store contains its path alone.

    Args:
        path: Folder.
        front_end: Front end that the frames were computed with.
        frames: (total frames, M) all utterances one after the other; a read-only memory map.
        offsets: (N + 1,) first frame of each utterance; the last value is the number of all frames.
        content: (N,) hexadecimal digests of the decoded samples, equal for equal recordings.
        levels: (N, 2) level in dB relative to full scale, and peak (``ser.audio.levels.measure``); empty for frames
            that belong to no store.
        built: Whether the call that returned this store built it.
    """

    path: Path
    front_end: FrontEnd
    frames: NDArray[np.float32]
    offsets: NDArray[np.int64]
    content: NDArray[np.str_]
    levels: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))
    built: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __reduce__(self) -> tuple[Callable[[Path], FeatureStore], tuple[Path]]:
        return FeatureStore.open, (self.path,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the number of frames of each utterance, (N,)."""
        return np.diff(self.offsets)

    @property
    def size(self) -> int:
        """Return the bytes that the store takes on disk."""
        return bytes_in(self.path)

    def utterance(self, row: int) -> NDArray[np.float32]:
        """Return a view of the (T, M) frames of the utterance in a row of the corpus's table."""
        return self.frames[self.offsets[row] : self.offsets[row + 1]]

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Open a store that exists, without its corpus.

        Args:
            path: Folder, the ``path`` of a store.

        Raises:
            UserError: The folder is missing, incomplete or of another format.
        """
        path = Path(path)
        try:
            meta = json.loads((path / _META).read_text("utf-8"))
            if meta["format"] != FORMAT:
                raise UserError(
                    f"feature store {str(path)!r} has format {meta['format']}, and {FORMAT} is expected: build it "
                    "again with ser.features.open_store."
                )
            for name, size in meta["sizes"].items():
                if (there := (path / name).stat().st_size) != size:
                    raise UserError(
                        f"feature store {str(path)!r} is incomplete, {name} has {there} of {size} bytes: build it "
                        "again with ser.features.open_store."
                    )
            offsets = np.load(path / _OFFSETS)
            spec = FrontEnd(**meta["front_end"])
            frames = np.memmap(path / FRAMES, dtype="<f4", mode="r", shape=(int(offsets[-1]), spec.size))
            return cls(path, spec, frames, offsets, np.load(path / _CONTENT), np.load(path / _LEVELS))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"feature store {str(path)!r} is missing or damaged ({error}): build it again with "
                "ser.features.open_store."
            ) from error


def open_store(
    corpus: Corpus,
    front_end: str | Extractor,
    folder: str | Path,
    *,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
    workers: int | None = None,
) -> FeatureStore:
    """Open the feature store of a corpus; build it first if it is missing or the audio has changed.

    Any number of processes may call this at once: one builds, the others wait for it. A build that is interrupted or
    killed, or whose disk is full, keeps what it has computed, and the next call resumes it. Faults in the audio leave
    nothing in the folder.

    Args:
        corpus: The corpus.
        front_end: Name as for ``ser.features.front_end``, or an extractor.
        folder: Folder of the stores; created if needed.
        progress: Called with (utterances done, number of utterances) while building.
        announce: Called before building with a line for people: what is computed, of how many utterances and minutes
            of audio, and the disk that it takes.
        workers: Threads that decode; None means one per core, at most ``ser.utils.parallel.MAX_THREADS``.

    Returns:
        The store.

    Raises:
        DataErrors: Audio cannot be used; all such utterances are listed, and nothing is stored.
        UserError: The front end is unknown or cannot be loaded, files change while they are read, or the folder
            cannot be written or has too little room.
    """
    from filelock import FileLock

    extractor = named_extractor(front_end) if isinstance(front_end, str) else front_end
    fingerprint = _fingerprint(corpus)
    family = _family(corpus, extractor.front_end)
    target = Path(folder).expanduser().absolute() / f"{family}{fingerprint}"
    with suppress(UserError):
        return FeatureStore.open(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            with suppress(UserError):
                return FeatureStore.open(target)  # built by another process in the meantime
            _remove_outdated(target, family)
            partial_folder = partial_store(target)
            needed = expected_bytes(corpus, extractor.front_end)
            _check_room(needed - bytes_in(partial_folder), target)
            building = PartialStore(partial_folder, extractor.front_end.size)
            if announce is not None:
                announce(_announcement(corpus, extractor.front_end, target.parent, needed, len(building)))
            with closing(building):
                _build(corpus, extractor, fingerprint, building, progress, workers)
            (partial_folder / RECORD).unlink()
            if target.exists():  # incomplete, otherwise it would have been opened
                shutil.rmtree(target)
            partial_folder.rename(target)
            return replace(FeatureStore.open(target), built=True)
    except OSError as error:
        raise UserError(
            f"feature store {str(target)!r} cannot be written ({error.strerror or error}): make room there or choose "
            "another folder with --features. What has been computed is kept, and the same command resumes it."
        ) from error


def is_stored(corpus: Corpus, front_end: FrontEnd, folder: str | Path) -> bool:
    """Return whether a feature store of a corpus is there, so that opening it computes nothing.

    Args:
        corpus: The corpus.
        front_end: Its front end.
        folder: Folder of the stores.
    """
    with suppress(UserError):
        FeatureStore.open(Path(folder).expanduser().absolute() / f"{_family(corpus, front_end)}{_fingerprint(corpus)}")
        return True
    return False


def _family(corpus: Corpus, front_end: FrontEnd) -> str:
    """Return the beginning of the names of a corpus's stores, whose end is a digest of the files."""
    return f"{corpus.name}-{corpus.audio_digest}-{front_end.name}-v{FORMAT}-"


def _announcement(corpus: Corpus, front_end: FrontEnd, folder: Path, size: float, done: int) -> str:
    """Return what a build computes, in a line for people."""
    seconds = _expected_seconds(corpus)
    audio = f"{len(corpus):,} utterances" + (f", {max(1, round(seconds / 60)):,} min of audio" if seconds else "")
    resumed = f" ({done:,} are there from an earlier call)" if done else ""
    disk = f", about {size_text(size)}" if size else ""
    return f"features  {front_end.name} of {audio}{resumed}{disk} in {folder}"


def _remove_outdated(target: Path, family: str) -> None:
    """Remove what interrupted builds of the same corpus and front end have left, whose audio has changed since."""
    from filelock import FileLock, Timeout

    for remains in target.parent.iterdir():
        if remains.name.startswith(family) and remains.suffix == PARTIAL and remains != partial_store(target):
            with suppress(Timeout), FileLock(f"{remains.with_suffix('')}.lock", blocking=False):
                shutil.rmtree(remains, ignore_errors=True)


def expected_bytes(corpus: Corpus, front_end: FrontEnd) -> float:
    """Estimate the size of a store, before it is built, from the durations of some utterances.

    Args:
        corpus: The corpus.
        front_end: Its front end.

    Returns:
        Bytes; 0 for synthesised audio, whose durations are not known before it is rendered.
    """
    frame = 4 * front_end.size
    if not front_end.hop_length:
        return float(frame * len(corpus))
    return _expected_seconds(corpus) * front_end.sample_rate / front_end.hop_length * frame


def _expected_seconds(corpus: Corpus) -> float:
    """Estimate the seconds of audio of a corpus from some utterances; 0 for synthesised audio."""
    if corpus.synthesize is not None:
        return 0.0
    rows = np.linspace(0, len(corpus) - 1, min(PROBES, len(corpus))).astype(int)
    probes = corpus.table.iloc[rows][["path", "start", "end"]].itertuples(index=False, name=None)
    return float(np.mean([_seconds(*probe) for probe in probes]) * len(corpus))


def _seconds(path: str, start: float, end: float) -> float:
    """Return the duration of an utterance; 0 if its file cannot be read, which building reports with all others."""
    from ser.audio import LONGEST_SECONDS, AudioFault, probe

    if np.isnan(end):
        try:
            end = probe(path).seconds
        except AudioFault:
            return 0.0
    seconds = end - (0.0 if np.isnan(start) else start)
    return seconds if 0 < seconds <= LONGEST_SECONDS else 0.0


def _check_room(needed: float, target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise UserError(
            f"the feature store {str(target)!r} takes about {size_text(needed)}, and {size_text(free)} are free there. "
            "Make room, or choose another folder."
        )


def delete_store(path: Path, in_use: Callable[[], bool]) -> bool:
    """Delete a feature store.

    Processes that have opened it keep what they have opened.

    Args:
        path: Folder, the ``path`` of a store; what an interrupted build of it has left is deleted as well, and the
            remains of an earlier call that was killed.
        in_use: Called once the store is out of the way, where nobody can open it any more.

    Returns:
        Whether it is deleted: not if it is in use, or being built.
    """
    from filelock import FileLock, Timeout

    aside = deleted_store(path)
    try:
        with FileLock(f"{path}.lock", blocking=False):
            renamed = path.exists()
            if renamed:
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            if renamed and in_use():
                aside.rename(path)
                return False
            shutil.rmtree(aside, ignore_errors=True)
            shutil.rmtree(partial_store(path), ignore_errors=True)
    except Timeout:
        return False
    return True


def deleted_store(path: Path) -> Path:
    """Return where a store lies while it is being deleted."""
    return path.with_name(f"{path.name}.deleting")


def partial_store(path: Path) -> Path:
    """Return where a store lies while it is being built."""
    return path.with_name(f"{path.name}{PARTIAL}")


def _build(
    corpus: Corpus,
    extractor: Extractor,
    fingerprint: str,
    found: PartialStore,
    progress: Progress | None,
    workers: int | None,
) -> None:
    """Fill a folder with the files of a store, ``meta.json`` last."""
    from ser.corpora.corpus import EXCLUDE_ADVICE

    faults, folder = [], found.folder
    with closing(_computed(corpus, extractor, len(found), workers)) as results:
        for done, (utterance_id, result) in enumerate(results, start=len(found) + 1):
            if isinstance(result, str):
                faults.append((utterance_id, result))
            elif result is not None and len(found) == done - 1:
                found.append(*result)
            if progress is not None:
                progress(done, len(corpus))
    if faults:
        shutil.rmtree(folder)
        raise DataErrors(f"corpus {corpus.name!r}", faults, EXCLUDE_ADVICE)
    found.flush()
    if _fingerprint(corpus) != fingerprint:
        shutil.rmtree(folder)
        raise UserError(
            f"corpus {corpus.name!r}: audio files changed while they were read. Run again when no other "
            "process writes to them."
        )
    arrays = {
        _OFFSETS: np.cumsum([0, *found.counts], dtype=np.int64),
        _CONTENT: np.array(found.content),
        _LEVELS: np.array(found.levels, dtype=np.float32),
    }
    for name, array in arrays.items():
        with (folder / name).open("wb") as file:
            np.save(file, array)
            to_disk(file)
    sizes = {name: (folder / name).stat().st_size for name in (FRAMES, *arrays)}
    meta = {
        "format": FORMAT,
        "corpus": corpus.name,
        "audio_digest": corpus.audio_digest,
        "fingerprint": fingerprint,
        "front_end": asdict(extractor.front_end),
        "sizes": sizes,
    }
    with (folder / _META).open("w", encoding="utf-8") as text:
        json.dump(meta, text, indent=1)
        to_disk(text)


Result = tuple[NDArray[np.float32], str, tuple[float, float]] | str | None


def _computed(corpus: Corpus, extractor: Extractor, begin: int, workers: int | None) -> Generator[tuple[str, Result]]:
    """Yield (utterance id, result of ``_features``) in the order of the table from a row on, a few utterances ahead.

    After the first fault the others are looked for, and nothing more is computed.
    """
    compute, rate = extractor.load(), extractor.front_end.sample_rate
    rows = corpus.table[["utterance_id", "path", "start", "end"]].iloc[begin:].itertuples(index=False, name=None)
    faulty = Event()

    def work(row: tuple[str, str, float, float]) -> Result:
        result = _features(corpus.synthesize, None if faulty.is_set() else compute, rate, *row)
        if isinstance(result, str):
            faulty.set()
        return result

    threads = torch.get_num_threads()
    try:
        # One torch thread per worker, because utterances are already computed in parallel.
        with closing(in_order(work, rows, workers, partial(torch.set_num_threads, 1))) as results:
            for row, result in results:
                yield row[0], result
    finally:
        torch.set_num_threads(threads)  # otherwise threads that are started later inherit the workers' 1


def _features(
    synthesize: Synthesizer | None,
    compute: Compute | None,
    rate: int,
    utterance_id: str,
    path: str,
    start: float,
    end: float,
) -> Result:
    """Return (T, M) frames, digest and level of the samples, or the reason why the audio cannot be used.

    None if the audio can be used, but nothing is to be computed.
    """
    from ser.audio import AudioFault, full_scale, read_samples
    from ser.audio.levels import measure
    from ser.corpora.corpus import SYNTHESIS_RATE

    try:
        if synthesize is None:
            first, last = (None if np.isnan(time) else time for time in (start, end))
            samples = read_samples(path, first, last, rate)
        else:
            import soxr

            samples = soxr.resample(synthesize(utterance_id), SYNTHESIS_RATE, rate, quality="HQ")
    except AudioFault as fault:
        return str(fault)
    if compute is None:
        return None
    scaled = full_scale(samples)
    return compute(scaled), _samples_digest(samples), measure(scaled)


def _samples_digest(samples: NDArray[Any]) -> str:
    """Return the digest of the samples as 16-bit integers where they are exact; so all lossless formats agree."""
    if samples.dtype == np.int16:
        content = samples.astype("<i2", copy=False)
    else:
        scaled = samples * np.float32(2**15)
        with np.errstate(invalid="ignore"):  # samples outside the range of 16 bits
            narrow = scaled.astype("<i2")
        content = narrow if (narrow == scaled).all() else samples.astype("<f4", copy=False)
    return hashlib.blake2b(np.ascontiguousarray(content).data, digest_size=8).hexdigest()


def _fingerprint(corpus: Corpus) -> str:
    """Return a digest that changes with the audio: of the files' sizes and times, or of the synthesis."""
    if corpus.synthesis:
        return digest(corpus.synthesis)
    if corpus.synthesize is not None:
        probes = corpus.table.drop_duplicates("label")["utterance_id"]
        return digest([_samples_digest(corpus.synthesize(utterance_id)) for utterance_id in probes])
    return digest([[path, *_stamp(path)] for path in sorted(set(corpus.table["path"]))])


def _stamp(path: str) -> tuple[int, ...]:
    from ser.audio.embedded import file_of

    try:
        status = Path(file_of(path)).stat()
    except OSError:
        return ()  # no store has this stamp, so the build runs and reports the file with all other faults
    return status.st_size, status.st_mtime_ns
