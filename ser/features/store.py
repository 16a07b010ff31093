"""The features of a whole corpus on disk: computed once, memory-mapped by every trial on a node.

A store is a folder that is complete from the moment it has its name: it is built beside it and renamed. The
name holds all that the content follows from (which audio, front end, format, and the sizes and times of the
files), so a changed file leads to another folder, and one that running trials have mapped is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from filelock import FileLock
from numpy.typing import NDArray

from ser.audio import AudioFault, full_scale, read_samples
from ser.corpora.corpus import EXCLUDE_ADVICE, SYNTHESIS_RATE, Corpus, Synthesizer
from ser.features.front_ends import Compute, Extractor, FrontEnd, named_extractor
from ser.utils.errors import DataErrors, UserError
from ser.utils.hashing import digest
from ser.utils.parallel import in_order

FORMAT = 3
"""Raised whenever the files or the numbers in them change, so that older stores are left alone."""

_FRAMES, _OFFSETS, _CONTENT, _META = "frames.f32", "offsets.npy", "content.npy", "meta.json"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """The frames of a corpus; rows are those of ``Corpus.table``.

    Pickling one hands on its path alone.

    Args:
        path: Its folder.
        front_end: What the frames were computed with.
        frames: (total frames, M) of the front end, all utterances one after the other; a read-only memory map.
        offsets: (N + 1,) where each utterance's frames begin; the last is the number of all frames.
        content: (N,) hexadecimal digests of the decoded samples: equal for equal recordings.
        built: Whether this very call built it.
    """

    path: Path
    front_end: FrontEnd
    frames: NDArray[np.float32]
    offsets: NDArray[np.int64]
    content: NDArray[np.str_]
    built: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __reduce__(self) -> tuple[Callable[[Path], FeatureStore], tuple[Path]]:
        return FeatureStore.open, (self.path,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) frames of each utterance."""
        return np.diff(self.offsets)

    def utterance(self, row: int) -> NDArray[np.float32]:
        """(T, M) frames of the utterance in that row of the corpus's table; a view, nothing is copied."""
        return self.frames[self.offsets[row] : self.offsets[row + 1]]

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Opens a store that is there; cheap, and needs no corpus.

        Args:
            path: The store's folder, as ``open_store(...).path`` has it.

        Raises:
            UserError: The folder is missing, incomplete or of another format.
        """
        path = Path(path)
        try:
            meta = json.loads((path / _META).read_text("utf-8"))
            if meta["format"] != FORMAT:
                raise UserError(f"feature store {path} has format {meta['format']}, not {FORMAT}: build it again.")
            for name, size in meta["sizes"].items():
                if (there := (path / name).stat().st_size) != size:
                    raise UserError(
                        f"feature store {path} is torn, {name} has {there} of {size} bytes: build it again."
                    )
            offsets = np.load(path / _OFFSETS)
            spec = FrontEnd(**meta["front_end"])
            frames = np.memmap(path / _FRAMES, dtype="<f4", mode="r", shape=(int(offsets[-1]), spec.size))
            return cls(path, spec, frames, offsets, np.load(path / _CONTENT))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(f"feature store {path} is missing or torn ({error}): build it again.") from error


def open_store(
    corpus: Corpus,
    front_end: str | Extractor,
    folder: str | Path,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> FeatureStore:
    """Opens a corpus's feature store, building it first if it is not there or the audio has changed since.

    Any number of processes may call this at once: one builds, the others wait for it. A build that fails or
    is interrupted leaves nothing behind; what a killed one left is removed by the next.

    Args:
        corpus: Whose audio.
        front_end: A name in ``ser.features.front_ends.FRONT_ENDS``, or an extractor, whose front end's name must tell all that
            its numbers follow from.
        folder: Where stores lie; created if need be.
        progress: Called as (utterances done, utterances in all) while building.
        workers: Threads that decode; None is one per core, within reason.

    Returns:
        The store; ``built`` tells whether it had to be built.

    Raises:
        DataErrors: Audio that cannot be used, every utterance of it; nothing is stored.
        UserError: Unknown front end, an extractor that cannot be loaded, files that change while they are read, or a
            folder that cannot be written.
    """
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
                return FeatureStore.open(target)  # another process has built it meanwhile
            partial_folder = target.with_name(target.name + ".partial")
            shutil.rmtree(partial_folder, ignore_errors=True)
            partial_folder.mkdir()
            try:
                _build(corpus, extractor, fingerprint, partial_folder, progress, workers)
                if target.exists():  # torn, or it would have been opened
                    shutil.rmtree(target)
                partial_folder.rename(target)
            finally:
                shutil.rmtree(partial_folder, ignore_errors=True)
            return replace(FeatureStore.open(target), built=True)
    except OSError as error:
        raise UserError(
            f"feature store {target} cannot be written ({error.strerror or error}): "
            "make room there or choose another folder."
        ) from error


def _build(
    corpus: Corpus, extractor: Extractor, fingerprint: str, folder: Path, progress: Progress | None, workers: int | None
) -> None:
    """Fills a folder with a store's files, ``meta.json`` last."""
    offsets, content, faults = [0], [], []
    with (folder / _FRAMES).open("wb") as file, closing(_computed(corpus, extractor, workers)) as results:
        for done, (utterance_id, result) in enumerate(results, start=1):
            if isinstance(result, str):
                faults.append((utterance_id, result))
            else:
                frames, samples_digest = result
                file.write(np.ascontiguousarray(frames, dtype="<f4").data)
                offsets.append(offsets[-1] + len(frames))
                content.append(samples_digest)
            if progress is not None:
                progress(done, len(corpus))
        if faults:
            raise DataErrors(f"corpus {corpus.name!r}", faults, EXCLUDE_ADVICE)
        _to_disk(file)
    if _fingerprint(corpus) != fingerprint:
        raise UserError(f"corpus {corpus.name!r}: files changed while they were read. Run again once they rest.")
    for name, array in ((_OFFSETS, np.array(offsets, dtype=np.int64)), (_CONTENT, np.array(content))):
        with (folder / name).open("wb") as file:
            np.save(file, array)
            _to_disk(file)
    sizes = {name: (folder / name).stat().st_size for name in (_FRAMES, _OFFSETS, _CONTENT)}
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


Result = tuple[NDArray[np.float32], str] | str


def _computed(corpus: Corpus, extractor: Extractor, workers: int | None) -> Generator[tuple[str, Result]]:
    """Yields (utterance id, result of ``_features``) in the table's order, at most a few utterances ahead."""
    compute, rate = extractor.load(), extractor.front_end.sample_rate
    rows = corpus.table[["utterance_id", "path", "start", "end"]].itertuples(index=False, name=None)
    threads = torch.get_num_threads()
    try:
        # One torch thread each: the utterances are what is parallel.
        one_thread = partial(torch.set_num_threads, 1)
        results = in_order(lambda row: _features(corpus.synthesize, compute, rate, *row), rows, workers, one_thread)
        with closing(results):
            for row, result in results:
                yield row[0], result
    finally:
        torch.set_num_threads(threads)  # threads started later would otherwise inherit the workers' 1


def _features(
    synthesize: Synthesizer | None,
    compute: Compute,
    rate: int,
    utterance_id: str,
    path: str,
    start: float,
    end: float,
) -> Result:
    """(T, M) frames and the digest of the samples, or what is wrong with the audio."""
    try:
        if synthesize is None:
            first, last = (None if np.isnan(time) else time for time in (start, end))
            samples = read_samples(path, first, last, rate)
        else:
            samples = soxr.resample(synthesize(utterance_id), SYNTHESIS_RATE, rate, quality="HQ")
    except AudioFault as fault:
        return str(fault)
    return compute(full_scale(samples)), _samples_digest(samples)


def _samples_digest(samples: NDArray[Any]) -> str:
    """Of 16-bit samples, if that is what they all are: half as many bytes, and the same in every lossless format."""
    if samples.dtype == np.int16:
        content = samples.astype("<i2", copy=False)
    else:
        scaled = samples * np.float32(2**15)
        with np.errstate(invalid="ignore"):  # of what lies beyond 16 bits
            narrow = scaled.astype("<i2")
        content = narrow if (narrow == scaled).all() else samples.astype("<f4", copy=False)
    return hashlib.blake2b(np.ascontiguousarray(content).data, digest_size=8).hexdigest()


def _fingerprint(corpus: Corpus) -> str:
    """Changes with the audio: the files' sizes and times or, where there are none, what synthesises it."""
    if corpus.synthesis:
        return digest(corpus.synthesis)
    if corpus.synthesize is not None:
        probes = corpus.table.drop_duplicates("label")["utterance_id"]
        return digest([_samples_digest(corpus.synthesize(utterance_id)) for utterance_id in probes])
    return digest([[path, *_stamp(path)] for path in sorted(set(corpus.table["path"]))])


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = Path(path).stat()
    except OSError:
        return ()  # no store has this stamp, so the build runs, and names the file with all the other faults
    return status.st_size, status.st_mtime_ns


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
