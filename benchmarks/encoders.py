"""Compare the stored layers of a frozen speech encoder with transformers' own loop, and time a head on them.

python benchmarks/encoders.py --corpus ravdess --corpus-root PATH

The encoder has the size of wav2vec2-base (12 layers of 768 channels) and random weights; the time does not depend on
the weights. The loop is transformers' feature extractor and model, one file after the other, with torch's threads as
they are, without gradients, and with all hidden states pooled.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pandas as pd
import soundfile
import torch
import tyro
from numpy.typing import NDArray

from benchmarks.measure import OUTPUT, Measurement, Results, heading, memory_mb, run_worker, table
from ser.config import Config
from ser.corpora import load
from ser.features.front_ends import Compute, Extractor
from ser.features.store import open_store
from ser.splits import split
from ser.torchaudio_import import torchaudio  # noqa: F401  before transformers, which imports it without care
from ser.training import train
from ser.training.embeddings import extractor
from ser.training.task import make_task

LOOP = "transformers' loop"
STORED = {"store, float32": "float32", "store, bfloat16": "bfloat16"}
HEAD = "head, 50 epochs"
EPOCHS = 50


def write_encoder(folder: Path) -> None:
    """Write an encoder of the size of wav2vec2-base with random weights."""
    import transformers

    torch.manual_seed(0)
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)


def write_clips(corpus: str, root: Path | None, count: int, folder: Path) -> float:
    """Write evenly chosen utterances of a corpus as WAV with a table, and return their seconds."""
    read = load(corpus, root)
    waveforms = open_store(read, "waveform_16k", folder / "waveforms")
    rows = np.unique(np.linspace(0, len(read) - 1, count).astype(int))
    for row in rows:
        soundfile.write(folder / f"{row}.wav", waveforms.utterance(row)[:, 0], 16000, subtype="FLOAT")
    listed = pd.DataFrame({"path": [f"{row}.wav" for row in rows], "speaker": "s"})
    listed.assign(label=["xy"[number % 2] for number in range(len(rows))]).to_csv(folder / "table.csv", index=False)
    return float(waveforms.lengths[rows].sum() / 16000)


def config_of(encoder: str, **values: object) -> Config:
    """Return the configuration of a head on a frozen encoder."""
    return Config.from_dotted({"model.name": f"hf:{encoder}", "model.freeze": "base", **values})


def store(precision: str, encoder: str, listing: str) -> dict[str, float]:
    """Build the store of the clips."""
    found = extractor(config_of(encoder, **{"model.encoder_precision": precision}))
    corpus, compute = load("table", listing), found.load()
    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: open_store(corpus, Extractor(found.front_end, lambda: compute), folder))


def loop(encoder: str, listing: str) -> dict[str, float]:
    """Run transformers' feature extractor and model on one file after the other."""
    import transformers

    model = transformers.AutoModel.from_pretrained(encoder).eval()
    reader = transformers.AutoFeatureExtractor.from_pretrained(encoder)
    paths = list(load("table", listing).table["path"])

    @torch.no_grad()
    def run() -> None:
        for path in paths:
            samples, rate = soundfile.read(path, dtype="float32")
            inputs = reader(samples, sampling_rate=rate, return_tensors="pt")
            for state in model(**inputs, output_hidden_states=True).hidden_states:
                torch.cat([state.mean(dim=1), state.std(dim=1)]).numpy()

    return timed(run)


def head(encoder: str, corpus: str, root: str) -> dict[str, float]:
    """Train a head on stored rows of random numbers, in a thread, as a trial of a study does."""
    torch.set_num_threads(1)
    read = load(corpus, root or None)
    config = config_of(encoder, **{"training.epochs": EPOCHS})
    spec = extractor(config).front_end

    def random_rows() -> Compute:
        def row(samples: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.random.default_rng(len(samples)).normal(size=(1, spec.size)).astype(np.float32)

        return row

    with tempfile.TemporaryDirectory() as folder:
        stored = open_store(read, Extractor(spec, random_rows), folder)
        task = make_task(read, split(read), stored.path, "clean", 0)
        return timed(lambda: [record.epoch for record in train(config, task, seed=0)])


def timed(run: Callable[[], object]) -> dict[str, float]:
    """Return seconds and processor seconds of a call, and the peak memory of the process in MB."""
    began, processor = time.perf_counter(), time.process_time()
    run()
    seconds, used = time.perf_counter() - began, time.process_time() - processor
    return {"seconds": seconds, "cpu_seconds": used, "memory_mb": memory_mb()}


WORKERS: dict[str, Callable[..., dict[str, float]]] = {"store": store, "loop": loop, "head": head}


def main(
    corpus: str = "synthetic",
    corpus_root: Path | None = None,
    clips: int = 48,
    repeats: int = 3,
    output: Path = OUTPUT,
) -> None:
    """Print the table, and save it as JSON.

    Args:
        corpus: Name of a corpus.
        corpus_root: Folder of the corpus; ``synthetic`` needs none.
        clips: Number of its utterances that the encoder reads.
        repeats: Rounds over all variants.
        output: Folder of the results.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, encoder = Path(temporary), Path(temporary) / "encoder"
        write_encoder(encoder)
        seconds = write_clips(corpus, corpus_root, clips, folder)
        results = Results("encoders", {"corpus": corpus, "clips": clips, "seconds": round(seconds)})
        print(heading(results.about))
        listing = folder / "table.csv"
        variants: dict[str, Callable[[], Measurement]] = {
            name: partial(_times, seconds, "store", precision, encoder, listing) for name, precision in STORED.items()
        }
        variants[LOOP] = partial(_times, seconds, "loop", encoder, listing)
        variants[HEAD] = lambda: run_worker(__file__, "head", encoder, corpus, corpus_root or "")
        results.run(variants, repeats)
    rows = [
        [
            name,
            *(results.cell(name, key) for key in ("times", "cpu_times", "memory_mb")),
            f"{results.ratio(name, LOOP, 'times'):.2f} ×",
        ]
        for name in (*STORED, LOOP)
    ]
    print(table(["", "× real time", "seconds of audio in a CPU second", "peak MB", "speed against the loop"], rows))
    print(
        f"\n{EPOCHS} epochs of a head with one thread: {results.cell(HEAD, 'seconds')} s, "
        f"{results.cell(HEAD, 'cpu_seconds')} CPU s, peak {results.cell(HEAD, 'memory_mb')} MB"
    )
    print(f"\nsaved: {results.save(output)}")


def _times(audio: float, *worker: object) -> Measurement:
    found = run_worker(__file__, *worker)
    return {**found, "times": audio / found["seconds"], "cpu_times": audio / found["cpu_seconds"]}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(WORKERS[sys.argv[2]](*sys.argv[3:])))
    else:
        tyro.cli(main)
