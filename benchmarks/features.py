"""Builds the feature store of a corpus, and the same log-mels with librosa: speed and memory.

python benchmarks/features.py --corpus ravdess --corpus-root PATH

Needs librosa beside the project: pip install librosa
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import torch
import tyro

from ser.corpora import load
from ser.feature_store import open_store
from ser.features import front_end

FRONT_END = "panns_16k"
VARIANTS = {
    "store, all cores": ("store", 0),
    "store, 1 core": ("store", 1),
    "librosa, all cores": ("librosa", 0),
    "librosa, 1 core": ("librosa", 1),
}


def librosa_log_mel(path: str) -> np.ndarray:
    """(T, M) log-mel in dB of one file, as PANNs' front end defines it."""
    import librosa  # not among the project's dependencies

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


def worker(kind: str, cores: str, corpus: str, root: str, seed: str) -> None:
    """Does one variant in this process, and prints seconds, peak memory in MB and the largest difference in dB."""
    count = int(cores) or len(os.sched_getaffinity(0))
    if count == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    read = load(corpus, root)
    paths = list(read.table["path"])
    rng = np.random.default_rng(int(seed))
    with tempfile.TemporaryDirectory() as folder:
        if kind == "store":
            began = time.perf_counter()
            store = open_store(read, FRONT_END, Path(folder), workers=count)
            seconds = time.perf_counter() - began
            memory = _peak(resource.RUSAGE_SELF)
            rows = rng.choice(len(paths), 5)
            difference = max(float(np.abs(librosa_log_mel(paths[row]) - store.utterance(row)).max()) for row in rows)
        else:
            librosa_log_mel(paths[0])  # imports and compiles
            torch.set_num_threads(1)
            with ProcessPoolExecutor(count) as pool:
                list(pool.map(librosa_log_mel, paths[: 2 * count]))
                began = time.perf_counter()
                frames = np.concatenate(list(pool.map(librosa_log_mel, paths, chunksize=8)))
                frames.tofile(Path(folder) / "frames.f32")
                seconds = time.perf_counter() - began
            memory, difference = _peak(resource.RUSAGE_SELF) + count * _peak(resource.RUSAGE_CHILDREN), 0.0
    print(json.dumps([seconds, memory, difference]))


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def main(corpus: str, corpus_root: Path, repeats: int = 3) -> None:
    """Prints the table.

    Args:
        corpus: Name of a corpus of audio files that are not cut.
        corpus_root: Its folder.
        repeats: Rounds over all variants.
    """
    read = load(corpus, corpus_root)
    hours = sum(soundfile.info(path).duration for path in read.table["path"]) / 3600
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"{corpus}: {len(read)} utterances, {hours:.2f} h; {repeats} rounds, each variant in a process of its own")
    results: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for seed in range(repeats):
        for name, (kind, count) in VARIANTS.items():
            command = [sys.executable, __file__, "--worker", kind, str(count), corpus, str(corpus_root), str(seed)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results[name].append(json.loads(output.splitlines()[-1]))
    plain = median(run[0] for run in results["librosa, all cores"])
    print(
        f"{'variant':<22}{'s':>8}{'min':>8}{'max':>8}{'h of audio / s':>16}{'per core':>10}{'speed':>8}{'peak MB':>9}"
    )
    for name, runs in results.items():
        seconds = [run[0] for run in runs]
        used = VARIANTS[name][1] or cores
        rate = hours / median(seconds)
        print(
            f"{name:<22}{median(seconds):>8.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}{rate:>16.3f}"
            f"{rate / used:>10.3f}{plain / median(seconds):>7.1f}×{median(run[1] for run in runs):>9.0f}"
        )
    difference = max(run[2] for runs in results.values() for run in runs)
    print(f"largest difference between store and librosa on a few utterances: {difference:.1e} dB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        tyro.cli(main)
