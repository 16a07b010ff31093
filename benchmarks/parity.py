"""Compare the log-mels of PANNs' front ends with those of torchlibrosa, on which PANNs were trained.

python benchmarks/parity.py --corpus ravdess --corpus-root PATH

Needs torchlibrosa and librosa in addition to the project: pip install torchlibrosa librosa
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import tyro

from ser.audio import read_audio
from ser.corpora import load
from ser.features.front_ends import FrontEnd, front_end, log_mel

NAMES = ("panns_16k", "panns_32k")
QUIET = -60.0
"""Level in dB below which, next to a loud band, both computations reach the precision of float32."""


def published(spec: FrontEnd) -> torch.nn.Module:
    """Return the first layers of PANNs' own models: samples (N, samples) to log-mel (N, 1, T, M) in dB."""
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram  # not among the project's dependencies

    spectrogram = Spectrogram(n_fft=spec.n_fft, hop_length=spec.hop_length, win_length=spec.n_fft)
    bands = LogmelFilterBank(
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        n_mels=spec.size,
        fmin=spec.f_min,
        fmax=spec.f_max,
        ref=1.0,
        amin=1e-10,
        top_db=None,
    )
    return torch.nn.Sequential(spectrogram, bands).eval()


@torch.no_grad()
def differences(name: str, paths: list[str]) -> np.ndarray:
    """Return (clips, 2) the largest absolute difference in dB of each clip: of all values, and above ``QUIET``."""
    spec = front_end(name)
    reference = published(spec)
    found = []
    for path in paths:
        samples = torch.from_numpy(read_audio(path, rate=spec.sample_rate))[None]
        ours, theirs = log_mel(samples, spec), reference(samples)[:, 0]
        if ours.shape != theirs.shape:
            raise SystemExit(f"{path}: {tuple(ours.shape)} in this project, {tuple(theirs.shape)} in torchlibrosa")
        apart = (ours - theirs).abs()
        found.append([float(apart.max()), float(apart[theirs > QUIET].max())])
    return np.array(found)


def main(corpus: str, corpus_root: Path, clips: int = 200, output: Path | None = None) -> None:
    """Print the table.

    Args:
        corpus: Name of a corpus whose utterances are whole audio files.
        corpus_root: Folder of the corpus.
        clips: Number of clips to compare, evenly spread over the table.
        output: JSON file to write the same figures to; None writes none.
    """
    table = load(corpus, corpus_root).table
    chosen = np.unique(np.linspace(0, len(table) - 1, clips).round().astype(int))
    paths = list(table["path"].iloc[chosen])
    print(f"{corpus}: {len(paths)} of {len(table)} clips; absolute difference to torchlibrosa in dB, by clip")
    print(f"{'front end':<12}{'median':>10}{'99 %':>10}{'largest':>10}{f'above {QUIET:g}':>12}  largest in")
    figures = {}
    for name in NAMES:
        found, loud = differences(name, paths).T
        middle, high = np.quantile(found, [0.5, 0.99])
        clip = Path(paths[int(found.argmax())]).name
        print(f"{name:<12}{middle:>10.1e}{high:>10.1e}{found.max():>10.1e}{loud.max():>12.1e}  {clip}")
        figures[name] = {
            "clips": len(found),
            "median": middle,
            "quantile_99": high,
            "largest": found.max(),
            f"largest_above_{QUIET:g}_db": loud.max(),
        }
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
