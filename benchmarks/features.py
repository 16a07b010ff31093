"""Compare the feature store with librosa and torchaudio: time to build and to open it, memory of several processes.

python benchmarks/features.py
python benchmarks/features.py --corpus ravdess --corpus-root PATH

Audio is first copied to 16 kHz WAV and FLAC (PCM 16) in a temporary folder. librosa and torchaudio compute the same
log-mels file by file in one process per core, and are timed after their processes have started and warmed up. The store
is timed with its checks, digests and fsync, from the call to the opened store. librosa is not a dependency of the
project: pip install librosa
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pandas as pd
import soundfile
import soxr
import torch
import tyro

from benchmarks.measure import OUTPUT, Measurement, Results, heading, run_worker, table
from ser.audio import read_audio
from ser.corpora import Corpus, load
from ser.corpora.corpus import SYNTHESIS_RATE
from ser.features.front_ends import front_end
from ser.features.store import FeatureStore, open_store
from ser.torchaudio_import import torchaudio
from ser.utils.parallel import cores

FRONT_END = "panns_16k"
RATE = front_end(FRONT_END).sample_rate
FORMATS = ("wav", "flac")
BUILDS = {
    "store, all cores": ("store", 0),
    "store, 1 core": ("store", 1),
    "torchaudio, a process per core": ("torchaudio", 0),
    "librosa, a process per core": ("librosa", 0),
}
PROCESSES = (1, 2, 4)
SYNTHETIC_COPIES = 4
"""Copies of the synthetic corpus, which alone is so small that the start of the threads would dominate the time."""
COMPARED = 8
"""Number of rows of the store that are compared with torchaudio's log-mels."""


def librosa_log_mel(path: str) -> np.ndarray:
    """Return (T, M) the log-mel in dB of one file by librosa, as PANNs' front end defines it."""
    import librosa  # not a dependency of the project

    spec = front_end(FRONT_END)
    samples, _ = librosa.load(path, sr=spec.sample_rate, mono=True)
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.size,
        fmin=spec.f_min,
        fmax=spec.f_max,
        pad_mode="reflect",
    )
    return librosa.power_to_db(mel, ref=1.0, amin=1e-10, top_db=None).T.astype(np.float32)


_transform: torch.nn.Module | None = None


def torchaudio_log_mel(path: str) -> np.ndarray:
    """Return (T, M) the same by torchaudio's transforms, which are created once in each process."""
    global _transform
    if _transform is None:
        torch.set_num_threads(1)
        spec = front_end(FRONT_END)
        mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=spec.sample_rate,
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            n_mels=spec.size,
            f_min=spec.f_min,
            f_max=spec.f_max,
            norm="slaney",
            mel_scale="slaney",
        )
        _transform = torch.nn.Sequential(mel, torchaudio.transforms.AmplitudeToDB("power"))
    samples, _ = soundfile.read(path, dtype="float32")
    with torch.inference_mode():
        return _transform(torch.from_numpy(samples)).T.contiguous().numpy()


OTHERS: dict[str, Callable[[str], np.ndarray]] = {"librosa": librosa_log_mel, "torchaudio": torchaudio_log_mel}


def build(kind: str, count: str, listing: str) -> dict[str, float]:
    """Build once and return the seconds; for the store also the largest difference to torchaudio in dB."""
    used = int(count) or cores()
    if used == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    corpus = load("table", listing)
    paths = list(corpus.table["path"])
    with tempfile.TemporaryDirectory() as folder:
        if kind == "store":
            began = time.perf_counter()
            store = open_store(corpus, FRONT_END, Path(folder), workers=used)
            seconds = time.perf_counter() - began
            rows = np.unique(np.linspace(0, len(paths) - 1, COMPARED).astype(int))
            apart = [np.abs(torchaudio_log_mel(paths[row]) - store.utterance(row)).max() for row in rows]
            return {"seconds": seconds, "difference_db": float(max(apart))}
        log_mel = OTHERS[kind]
        with ProcessPoolExecutor(used) as pool:
            list(pool.map(log_mel, paths[: 8 * used]))
            began = time.perf_counter()
            np.concatenate(list(pool.map(log_mel, paths, chunksize=8))).tofile(Path(folder) / "frames.f32")
            seconds = time.perf_counter() - began
        return {"seconds": seconds}


def opening(listing: str, stores: str) -> dict[str, float]:
    """Return the milliseconds to open a store: by its corpus, whose files are checked, and by its path."""
    corpus = load("table", listing)
    began = time.perf_counter()
    store = open_store(corpus, FRONT_END, stores)
    found = time.perf_counter()
    FeatureStore.open(store.path)
    return {"with_corpus_ms": 1e3 * (found - began), "by_path_ms": 1e3 * (time.perf_counter() - found)}


def memory(path: str, count: str) -> dict[str, float]:
    """Return the memory in MiB (proportional set size) of ``count`` processes that have read every row of one store."""
    command = [sys.executable, __file__, "--worker", "reader", path]
    readers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(int(count))
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            reader.stdout.readline()
        totals, mapped = zip(*(_proportional(reader.pid) for reader in readers), strict=True)
    finally:
        for reader in readers:
            reader.communicate("done\n")
    return {"total_mib": sum(totals), "store_mib": sum(mapped)}


def read_all(path: str) -> dict[str, float]:
    """Read every row, print a line, and wait for a line of input."""
    store = FeatureStore.open(path)
    total = sum(float(store.utterance(row).sum()) for row in range(len(store)))
    print("ready", flush=True)
    input()
    return {"sum": total}


def _proportional(pid: int) -> tuple[float, float]:
    """Return the MiB of a process and of the store's frames in it; shared pages count by their share (PSS)."""
    total = mapped = 0
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith("frames.f32")
        elif line.startswith("Pss:"):
            total += int(line.split()[1])
            mapped += inside * int(line.split()[1])
    return total / 1024, mapped / 1024


WORKERS: dict[str, Callable[..., dict[str, float]]] = {
    "build": build,
    "opening": opening,
    "memory": memory,
    "reader": read_all,
}


def copies(corpus: Corpus, folder: Path) -> float:
    """Write a corpus as 16 kHz PCM 16 in each of ``FORMATS``, each with a table; return the hours of audio."""
    times = SYNTHETIC_COPIES if corpus.synthesize is not None else 1
    rows, seconds = [], 0.0
    for number, (name, path, start, end) in enumerate(
        corpus.table[["utterance_id", "path", "start", "end"]].itertuples(index=False, name=None)
    ):
        if corpus.synthesize is not None:
            samples = soxr.resample(corpus.synthesize(name), SYNTHESIS_RATE, RATE, quality="HQ")
        else:
            samples = read_audio(path, *(None if np.isnan(at) else at for at in (start, end)), RATE)
        for copy in range(times):
            stem = f"{number:06}-{copy}"
            rows.append({"path": stem, "speaker": "s", "label": "xy"[number % 2]})
            for form in FORMATS:
                (folder / form).mkdir(exist_ok=True)
                soundfile.write(folder / form / f"{stem}.{form}", samples, RATE, subtype="PCM_16")
            seconds += len(samples) / RATE
    for form in FORMATS:
        listed = pd.DataFrame(rows)
        listed["path"] += f".{form}"
        listed.to_csv(folder / form / "table.csv", index=False)
    return seconds / 3600


def main(corpus: str = "synthetic", corpus_root: Path | None = None, repeats: int = 3, output: Path = OUTPUT) -> None:
    """Print the tables, and save them as JSON with a figure.

    Args:
        corpus: Name of a corpus without faults in its audio.
        corpus_root: Folder of the corpus; ``synthetic`` needs none.
        repeats: Rounds over all variants.
        output: Folder of the results.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hours = copies(load(corpus, corpus_root), folder)
        listings = {form: folder / form / "table.csv" for form in FORMATS}
        store = open_store(load("table", listings["wav"]), FRONT_END, folder / "stores")
        results = Results("features", {"corpus": corpus, "clips": len(store), "hours": round(hours, 3)})
        print(heading(results.about))
        missing = {kind for kind in OTHERS if find_spec(kind) is None}
        for kind in sorted(missing):
            print(f"left out: {kind}, which is not installed (pip install {kind})")
        worker = partial(run_worker, __file__)
        variants: dict[str, Callable[[], Measurement]] = {
            f"{name}, {form}": partial(_timed, hours, len(store), kind, count, listings[form])
            for form in FORMATS
            for name, (kind, count) in BUILDS.items()
            if kind not in missing
        }
        builds = list(variants)
        variants["open"] = lambda: worker("opening", listings["wav"], folder / "stores")
        shared = [f"processes: {count}" for count in PROCESSES if Path("/proc/self/smaps").exists()]
        variants |= {name: partial(worker, "memory", store.path, name.split()[-1]) for name in shared}
        if not shared:
            print("left out: memory of several processes, which only Linux reports")
        results.run(variants, repeats)
        size = store.frames.nbytes / 2**20
    _print(results, builds, shared, size)
    print(f"\nsaved: {results.save(output)}, {results.draw(output, 'times', 'times real time to build', builds)}")


def _timed(hours: float, clips: int, kind: str, count: int, listing: Path) -> Measurement:
    found = run_worker(__file__, "build", kind, count, listing)
    return {**found, "times": 3600 * hours / found["seconds"], "clips": clips / found["seconds"]}


def _print(results: Results, builds: list[str], shared: list[str], size: float) -> None:
    best = {form: f"store, all cores, {form}" for form in FORMATS}
    rows = [
        [
            name,
            *(results.cell(name, key) for key in ("seconds", "clips")),
            results.cell(name, "times", 4),
            f"{results.ratio(best[name.rpartition(' ')[2]], name, 'times'):.2f} ×",
        ]
        for name in builds
    ]
    print(table(["build", "s", "clips a second", "× real time", "relative speed of the store"], rows))
    apart = max(max(results.values(name, "difference_db"), default=0.0) for name in builds)
    print(f"\nLargest difference to torchaudio in {COMPARED} rows: {apart:.1e} dB.")
    print(
        f"Opening a store: {results.cell('open', 'with_corpus_ms')} ms by its corpus, whose files are checked; "
        f"{results.cell('open', 'by_path_ms')} ms by its path.\n"
    )
    rows = [[name.split()[-1], results.cell(name, "total_mib"), results.cell(name, "store_mib")] for name in shared]
    header = ["processes that have read all rows", "memory of all (PSS), MiB", f"of which the store of {size:.0f} MiB"]
    if rows:
        print(table(header, rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(WORKERS[sys.argv[2]](*sys.argv[3:])))
    else:
        tyro.cli(main)
