"""The features of a whole corpus on disk: computed once, memory-mapped by every trial on a node.

A store is a folder. It is built under a temporary name and renamed when it is complete. Its name contains all that its
content depends on (audio, front end, format, and the sizes and modification times of the files), so a changed file
leads to another folder, and a folder that running trials have mapped is never modified.

Building reads audio; opening does not, and needs NumPy and torch alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser.features.front_ends import Compute, Extractor, FrontEnd, named_extractor
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

_FRAMES, _OFFSETS, _CONTENT, _LEVELS = "frames.f32", "offsets.npy", "content.npy", "levels.npy"
_META = "meta.json"

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
            frames = np.memmap(path / _FRAMES, dtype="<f4", mode="r", shape=(int(offsets[-1]), spec.size))
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
    workers: int | None = None,
) -> FeatureStore:
    """Open the feature store of a corpus; build it first if it is missing or the audio has changed.

    Any number of processes may call this at once: one builds, the others wait for it. A build that fails or is
    interrupted leaves nothing in the folder; the remains of a killed one are removed by the next.

    Args:
        corpus: The corpus.
        front_end: Name as for ``ser.features.front_end``, or an extractor.
        folder: Folder of the stores; created if needed.
        progress: Called with (utterances done, number of utterances) while building.
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
    target = (
        Path(folder).expanduser().absolute()
        / f"{corpus.name}-{corpus.audio_digest}-{extractor.front_end.name}-v{FORMAT}-{fingerprint}"
    )
    with suppress(UserError):
        return FeatureStore.open(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            with suppress(UserError):
                return FeatureStore.open(target)  # built by another process in the meantime
            partial_folder = target.with_name(target.name + ".partial")
            shutil.rmtree(partial_folder, ignore_errors=True)
            _check_room(expected_bytes(corpus, extractor.front_end), target)
            partial_folder.mkdir()
            try:
                _build(corpus, extractor, fingerprint, partial_folder, progress, workers)
                if target.exists():  # incomplete, otherwise it would have been opened
                    shutil.rmtree(target)
                partial_folder.rename(target)
            finally:
                shutil.rmtree(partial_folder, ignore_errors=True)
            return replace(FeatureStore.open(target), built=True)
    except OSError as error:
        raise UserError(
            f"feature store {str(target)!r} cannot be written ({error.strerror or error}): make room there or choose "
            "another folder with --features."
        ) from error


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
    if corpus.synthesize is not None:
        return 0.0
    rows = np.linspace(0, len(corpus) - 1, min(PROBES, len(corpus))).astype(int)
    probes = corpus.table.iloc[rows][["path", "start", "end"]].itertuples(index=False, name=None)
    seconds = np.mean([_seconds(*probe) for probe in probes])
    return float(seconds * front_end.sample_rate / front_end.hop_length * frame * len(corpus))


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
        path: Folder, the ``path`` of a store; remains of an earlier call that was killed are deleted as well.
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
    except Timeout:
        return False
    return True


def deleted_store(path: Path) -> Path:
    """Return where a store lies while it is being deleted."""
    return path.with_name(f"{path.name}.deleting")


def _build(
    corpus: Corpus, extractor: Extractor, fingerprint: str, folder: Path, progress: Progress | None, workers: int | None
) -> None:
    """Fill a folder with the files of a store, ``meta.json`` last."""
    from ser.corpora.corpus import EXCLUDE_ADVICE

    offsets, content, levels, faults = [0], [], [], []
    with (folder / _FRAMES).open("wb") as file, closing(_computed(corpus, extractor, workers)) as results:
        for done, (utterance_id, result) in enumerate(results, start=1):
            if isinstance(result, str):
                faults.append((utterance_id, result))
            else:
                frames, samples_digest, level = result
                file.write(np.ascontiguousarray(frames, dtype="<f4").data)
                offsets.append(offsets[-1] + len(frames))
                content.append(samples_digest)
                levels.append(level)
            if progress is not None:
                progress(done, len(corpus))
        if faults:
            raise DataErrors(f"corpus {corpus.name!r}", faults, EXCLUDE_ADVICE)
        _to_disk(file)
    if _fingerprint(corpus) != fingerprint:
        raise UserError(
            f"corpus {corpus.name!r}: audio files changed while they were read. Run again when no other "
            "process writes to them."
        )
    arrays = {
        _OFFSETS: np.array(offsets, dtype=np.int64),
        _CONTENT: np.array(content),
        _LEVELS: np.array(levels, dtype=np.float32),
    }
    for name, array in arrays.items():
        with (folder / name).open("wb") as file:
            np.save(file, array)
            _to_disk(file)
    sizes = {name: (folder / name).stat().st_size for name in (_FRAMES, *arrays)}
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
        _to_disk(text)


Result = tuple[NDArray[np.float32], str, tuple[float, float]] | str


def _computed(corpus: Corpus, extractor: Extractor, workers: int | None) -> Generator[tuple[str, Result]]:
    """Yield (utterance id, result of ``_features``) in the order of the table, a few utterances ahead."""
    compute, rate = extractor.load(), extractor.front_end.sample_rate
    rows = corpus.table[["utterance_id", "path", "start", "end"]].itertuples(index=False, name=None)
    threads = torch.get_num_threads()
    try:
        # One torch thread per worker, because utterances are already computed in parallel.
        one_thread = partial(torch.set_num_threads, 1)
        results = in_order(lambda row: _features(corpus.synthesize, compute, rate, *row), rows, workers, one_thread)
        with closing(results):
            for row, result in results:
                yield row[0], result
    finally:
        torch.set_num_threads(threads)  # otherwise threads that are started later inherit the workers' 1


def _features(
    synthesize: Synthesizer | None,
    compute: Compute,
    rate: int,
    utterance_id: str,
    path: str,
    start: float,
    end: float,
) -> Result:
    """Return (T, M) frames, digest and level of the samples, or the reason why the audio cannot be used."""
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


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
