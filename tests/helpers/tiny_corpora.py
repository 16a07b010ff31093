"""Small corpora with labels and votes known by hand, and random ones, for tests of label noise."""

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from hypothesis import settings
from hypothesis import strategies as st

from ser.corpora.corpus import Corpus

EMOTIONS = ("angry", "fearful", "happy", "neutral", "sad")
battery = settings(max_examples=25, deadline=None)


def corpus_of(labels, classes, votes=None, speakers=None, true_labels=None, ids=None, name="tiny"):
    table = pd.DataFrame(
        {
            "utterance_id": ids or [f"u{i:05}" for i in range(len(labels))],
            "speaker": speakers or ["s"] * len(labels),
            "label": list(labels),
        }
    )
    if votes is not None:
        table["votes"] = pd.Series(list(votes), dtype=object)
    if true_labels is not None:
        table["true_label"] = pd.Series(list(true_labels), dtype=object)
    return Corpus(name, table, tuple(classes), synthesize=lambda _: np.zeros(16, dtype=np.float32))


def corpus_and_rows(labels, classes, votes=None):
    """Return a corpus that begins with these utterances and has one more of each class, and the rows of these."""
    size, width = len(labels), len(classes)
    alone = None if votes is None else [tuple(3 * (i == j) for j in range(width)) for i in range(width)]
    corpus = corpus_of([*labels, *classes], classes, None if votes is None else [*votes, *alone])
    return corpus, range(size)


def random_corpus(seed, size, width=5):
    rng = np.random.default_rng(seed)
    classes = tuple(rng.permutation(EMOTIONS)[:width].tolist())
    votes = rng.integers(0, 3, (size, width))
    votes[np.arange(size), rng.integers(0, width, size)] += 1
    labels = [classes[i] for i in rng.integers(0, width, size)]
    speakers = [f"s{i}" for i in rng.integers(0, 4, size)]
    return corpus_of(labels, classes, [tuple(map(int, row)) for row in votes], speakers)


def four_utterances():
    return corpus_of(
        ["sad", "sad", "angry", "happy"],
        ("angry", "happy", "sad"),
        votes=[(1, 0, 2), (0, 0, 3), (3, 0, 0), (0, 2, 1)],
        speakers=["ann", "ann", "bob", "bob"],
    )


@st.composite
def corpora(draw):
    return random_corpus(draw(st.integers(0, 10**6)), draw(st.integers(1, 30)), draw(st.integers(2, 5)))


@st.composite
def corpora_in_parts(draw):
    corpus = draw(corpora())
    part = np.array(draw(st.lists(st.integers(0, 2), min_size=len(corpus), max_size=len(corpus))))
    return corpus, {"train": np.flatnonzero(part == 0), "validation": np.flatnonzero(part == 1)}


def flips(noisy):
    return {i: noisy.labels[i] for i in np.flatnonzero(noisy.labels != noisy.truth)}


def write_noise_corpus(folder: Path, count: int = 24, of_a_speaker: int = 4, samples: int = 8000) -> Path:
    """Write utterances of noise with two labels in turn, as files of 16 kHz with a table; return the table."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", rng.normal(0, 0.1, samples), 16000)
        rows.append({"path": f"{number}.wav", "speaker": f"s{number // of_a_speaker}", "label": "xy"[number % 2]})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"
