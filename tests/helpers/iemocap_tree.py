"""Folders in the exact format of IEMOCAP, with every irregularity of the real files.

The layout, the names of dialogs, the number of utterances in each session and the consensus labels of the full-size
tree are those of the release. Votes, times and ratings are not: they are drawn from a seed. Results on them do not
allow conclusions about the real corpus.
"""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np

CLASSES = ("ang", "exc", "fru", "hap", "neu", "sad")
OUTSIDE = ("xxx", "sur", "fea", "oth", "dis")
WORDS = {
    "ang": "Anger",
    "exc": "Excited",
    "fru": "Frustration",
    "hap": "Happiness",
    "neu": "Neutral",
    "sad": "Sadness",
    "sur": "Surprise",
    "fea": "Fear",
    "oth": "Other",
    "dis": "Disgust",
}
COUNTS_1_TO_4 = {"ang": 933, "exc": 742, "fru": 1468, "hap": 452, "neu": 1324, "sad": 839}
COUNTS_5 = {"ang": 170, "exc": 299, "fru": 381, "hap": 143, "neu": 384, "sad": 245}
# In total xxx 2,507, sur 107, fea 40, oth 3, dis 2; their distribution over the sessions is invented.
OUTSIDE_1_TO_4 = {"xxx": 1990, "sur": 85, "fea": 32, "oth": 2, "dis": 2}
OUTSIDE_5 = {"xxx": 517, "sur": 22, "fea": 8, "oth": 1, "dis": 0}
SESSION_SIZES = {1: 1819, 2: 1811, 3: 2136, 4: 2103, 5: 2170}

# The share of a class's utterances in which one evaluator dissents, by the category named instead. The votes give
# IEMOCAP's transition at noisy-B (ang→fru .32, fru→ang .22, exc→hap .31, hap→exc .34, hap→neu .17, neu→fru .22,
# neu→exc .10, fru→neu .13, sad→fru .16, sad→neu .14); about two thirds of the utterances have a dissenting vote
# within the six classes, and about a quarter within the four.
DISSENT = {
    "ang": {"fru": 0.53, "neu": 0.05, "sad": 0.03, "exc": 0.02, "dis": 0.08, "oth": 0.03},
    "exc": {"hap": 0.52, "neu": 0.12, "fru": 0.02, "ang": 0.01, "sur": 0.10},
    "fru": {"ang": 0.37, "neu": 0.22, "sad": 0.08, "oth": 0.04, "dis": 0.03},
    "hap": {"exc": 0.57, "neu": 0.27, "sad": 0.02, "sur": 0.04},
    "neu": {"fru": 0.37, "exc": 0.17, "sad": 0.09, "hap": 0.07, "ang": 0.02, "oth": 0.05},
    "sad": {"fru": 0.27, "neu": 0.24, "ang": 0.05, "fea": 0.05, "oth": 0.03},
    "sur": {"exc": 0.4, "fru": 0.2, "neu": 0.2},
    "fea": {"sad": 0.5, "fru": 0.2},
    "oth": {"neu": 0.5, "fru": 0.3},
    "dis": {"ang": 0.5, "fru": 0.4},
}
COMMENTS = ("curious", "a comment; with more, words", "guarded, tense (or ready); dom 2", "val: hard to tell", "…")


@dataclass(frozen=True)
class Utterance:
    """Block of one utterance; ``categories`` and ``ratings`` hold (evaluator, text, comment)."""

    name: str
    consensus: str
    start: float
    end: float
    means: tuple[float, float, float]
    categories: tuple[tuple[str, str, str], ...]
    ratings: tuple[tuple[str, str, str], ...]

    def lines(self) -> list[str]:
        means = ", ".join(f"{mean:.4f}" for mean in self.means)
        return [
            f"[{self.start:.4f} - {self.end:.4f}]\t{self.name}\t{self.consensus}\t[{means}]",
            *(f"C-{who}:\t{said}\t({comment})" for who, said, comment in self.categories),
            *(f"A-{who}:\t{said}\t({comment})" for who, said, comment in self.ratings),
            "",
        ]


def dialogs(session: int) -> list[str]:
    """Return the names of the dialogs of a session in the release, sorted; all sessions have 151."""
    impro = [f"impro{number:02}" for number in range(1, 8 if session == 1 else 9)]
    script = ["script01_1", "script01_2", "script01_3", "script02_1", "script02_2", "script03_1", "script03_2"]
    scenes = {"F": impro + script, "M": impro + script}
    if session == 3:
        split = {"impro05": ["impro05a", "impro05b"], "impro08": ["impro08a", "impro08b"]}
        scenes["M"] = [piece for scene in impro for piece in split.get(scene, [scene])] + script
    if session == 5:
        scenes["M"] = [*impro, *script, "script01_1b"]
    return sorted(f"Ses{session:02}{letter}_{scene}" for letter in "FM" for scene in scenes[letter])


def build(
    root: Path,
    sessions: Sequence[int] = (1, 2, 3, 4, 5),
    per_class: int = 2,
    seed: int = 0,
    audio: Literal["none", "empty", "tones"] = "none",
) -> Path:
    """Write a small release.

    Args:
        root: A folder, created if missing.
        sessions: The sessions to write, 1 to 5.
        per_class: Utterances of each of the six classes per session; each other consensus has one more.
        seed: Selects votes, ratings and times.
        audio: The sentence files: none, empty, or tones of .5 s at 16 kHz, whose pitch depends on the class.

    Returns:
        The release's folder, with four dialogs in each session.
    """
    release = root / "IEMOCAP_full_release"
    rng = np.random.default_rng(seed)
    for session in sessions:
        labels = [label for label in CLASSES for _ in range(per_class)] + list(OUTSIDE)
        chosen = [f"Ses{session:02}{name}" for name in ("F_impro01", "M_impro05a", "F_script01_3", "M_script01_1b")]
        for dialog, utterances in _dialogs(chosen, labels, rng).items():
            _write(release, dialog, utterances, windows=dialog == chosen[0])
            if audio != "none":
                _write_audio(release, dialog, utterances, audio)
    return release


def build_full(root: Path, seed: int = 0) -> Path:
    """Write a release of full size without audio: 10,039 utterances in 151 dialogs, with the true consensus counts.

    Args:
        root: A folder, created if missing.
        seed: Selects votes, ratings, times, and the label of each utterance.

    Returns:
        The release's folder.
    """
    release = root / "IEMOCAP_full_release"
    rng = np.random.default_rng(seed)
    first = _spread(COUNTS_1_TO_4 | OUTSIDE_1_TO_4, rng)
    labels = {session: list(islice(first, SESSION_SIZES[session])) for session in (1, 2, 3, 4)}
    labels[5] = list(_spread(COUNTS_5 | OUTSIDE_5, rng))
    for session, said in labels.items():
        for dialog, utterances in _dialogs(dialogs(session), said, rng).items():
            _write(release, dialog, utterances, windows=dialog == "Ses02F_impro03")
    return release


def _spread(counts: dict[str, int], rng: np.random.Generator) -> Iterator[str]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return iter([labels[position] for position in rng.permutation(len(labels))])


def _dialogs(names: Sequence[str], labels: Iterable[str], rng: np.random.Generator) -> dict[str, list[Utterance]]:
    """Distribute the labels over the dialogs in turn; within a dialog, the two speakers alternate."""
    found: dict[str, list[Utterance]] = {name: [] for name in names}
    for number, (dialog, label) in enumerate(zip(cycle(names), labels, strict=False)):
        place = len(found[dialog])
        name = f"{dialog}_{'FM'[place % 2]}{place // 2:03}"
        start = 6.2901 + 3.5 * place
        found[dialog].append(_utterance(name, label, start, start + rng.uniform(0.6, 8), number, rng))
    return found


def _utterance(name: str, label: str, start: float, end: float, number: int, rng: np.random.Generator) -> Utterance:
    """Draw votes with a majority for the consensus, or none for ``xxx``; irregularities alternate by ``number``."""
    evaluators = ["E1", "E2", "E4"] if number % 3 else ["E2", "E3", "E4"]
    said = _votes(label, rng)
    if number % 7 == 6:
        evaluators.append("E5")
        said.append([] if label == "xxx" else [label])
    rng.shuffle(said)
    categories = [(who, _words(codes, number), "") for who, codes in zip(evaluators, said, strict=True)]
    if number % 5 == 1:
        who, words, _ = categories[1]
        categories[1] = (who, words, COMMENTS[number // 5 % len(COMMENTS)])
    if number % 19 == 3:
        categories.append(categories[0])
    self_ = f"{name.rpartition('_')[2][0]}{int(name[3:5])}"
    if number % 2:
        categories.append((self_, "Happiness; Excited;" if number % 4 == 1 else "Other;", ""))
    values = rng.integers(1, 6, (2, 3)).astype(float)
    ratings = [(who, _rating(row), "") for who, row in zip(("E3", "E4"), values, strict=True)]
    if number % 11 == 4:
        ratings[1] = ("E4", "val 3; act 2; dom  ;", "")
        values[1] = 3, 2, np.nan
    if number % 2:
        ratings.append((self_, _rating(rng.integers(1, 6, 3)), "myself; really" if number % 6 == 1 else ""))
    valence, activation, dominance = np.nanmean(values, axis=0).tolist()
    return Utterance(name, label, start, end, (valence, activation, dominance), tuple(categories), tuple(ratings))


def _votes(label: str, rng: np.random.Generator) -> list[list[str]]:
    """Draw the categories that three evaluators name."""
    if label == "xxx":
        return [[CLASSES[position]] for position in rng.permutation(len(CLASSES))[:3]]
    bounds = np.cumsum(list(DISSENT[label].values()))
    position = int(np.searchsorted(bounds, rng.random(), side="right"))
    votes = [[label], [label], [label]]
    if position < len(bounds):
        other = list(DISSENT[label])[position]
        votes[0] = [label, other] if rng.random() < 0.2 else [other]
    return votes


def _words(codes: Sequence[str], number: int) -> str:
    words = [WORDS[code] for code in codes]
    if number % 13 == 5:
        words = ["Neutral state" if word == "Neutral" else word.lower() for word in words]
    return " ".join(f"{word};" for word in words)


def _rating(values: Iterable[float]) -> str:
    valence, activation, dominance = map(int, values)
    return f"val {valence}; act {activation}; dom  {dominance};"


def _write(release: Path, dialog: str, utterances: Sequence[Utterance], windows: bool) -> None:
    """Write the file of a dialog, and next to it files that a loader must skip."""
    folder = release / f"Session{int(dialog[3:5])}" / "dialog" / "EmoEvaluation"
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for position, utterance in enumerate(utterances):
        block = utterance.lines()
        lines += [f"{line} " if line and position % 4 == 3 else line for line in block]
    folder.mkdir(parents=True, exist_ok=True)
    text = ("\r\n" if windows else "\n").join([*lines, ""])
    (folder / f"{dialog}.txt").write_bytes(text.encode())
    (folder / f"._{dialog}.txt").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    for kind, said in (("Categorical", ":Neutral state; ()"), ("Attribute", ":act 4; :val 3; :dom  2; ()")):
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"{dialog}_e2_{kind[:3].lower()}.txt").write_text(f"{dialog}_F000 {said}\n")


def _write_audio(release: Path, dialog: str, utterances: Sequence[Utterance], audio: Literal["empty", "tones"]) -> None:
    folder = release / f"Session{int(dialog[3:5])}" / "sentences" / "wav" / dialog
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(8000) / 16000
    for utterance in utterances:
        path = folder / f"{utterance.name}.wav"
        if audio == "empty":
            path.touch()
            continue
        # A small offset by name, so that no two recordings are copies of each other.
        pitch = (
            200.0 * 1.5 ** [*CLASSES, *OUTSIDE].index(utterance.consensus) + crc32(utterance.name.encode()) % 4096 / 128
        )
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes((8000 * np.sin(2 * np.pi * pitch * time)).astype("<i2").tobytes())
