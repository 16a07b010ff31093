"""Advice in messages about data, followed to the letter until the corpus loads: nothing good is lost on the way."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.corpora import Corpus, __main__, load, parse_options
from ser.features.store import open_store
from ser.splits import check_disjoint, split
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from tests.helpers.corpus_trees import BUILDERS

MOST_ROUNDS = 6


@dataclass
class Reader:
    """Person who knows nothing but what the last message says, and does it.

    Args:
        corpus: Name of the corpus.
        root: Its root.
        folder: Folder for the files that messages ask for.
        options: What was said on the command line so far.
    """

    corpus: str
    root: Path
    folder: Path
    options: dict[str, list[str]] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    split_by: str = "auto"

    def words(self) -> list[str]:
        return [
            self.corpus,
            "--root",
            str(self.root),
            *(word for key in self.options for word in (key, *self.options[key])),
        ]

    def follow(self, message: str) -> None:
        """Do what a message says, or fail."""
        lines = message.splitlines()
        listed = [line for line in lines if line.startswith("  ")]
        if commands := [shlex.split(line) for line in listed if line.startswith("  --")]:
            key, *values = commands[0]
            self.options[key] = values
        elif "column,old,new" in lines:
            names = self.folder / "names.csv"
            names.write_text("\n".join(lines[lines.index("column,old,new") :]) + "\n", encoding="utf-8")
            self.options["--corpus-options"] = [f"names={names}"]
        elif found := re.search(r"Pass --split-by (\w+)", message):
            self.split_by = found[1]
        elif "--exclude FILE" in message and listed:
            self.excluded += listed
            exclude = self.folder / "exclude.txt"
            exclude.write_text("\n".join(self.excluded) + "\n", encoding="utf-8")
            self.options["--exclude"] = [str(exclude)]
        else:
            pytest.fail(f"says nothing that can be done as it is printed: {message}")

    def load(self) -> Corpus:
        """Load the corpus with the options so far."""
        exclude = self.options.get("--exclude")
        return load(
            self.corpus,
            self.root,
            Path(exclude[0]) if exclude else None,
            parse_options(self.options.get("--corpus-options", [])),
            *self.options.get("--classes", []),
        )


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def added(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def copied(source: Path, *targets: Path) -> None:
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def other_sound(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 8000).astype(np.float32), 16000)


def twice(root: Path) -> None:
    copy = root / "audio_speech_actors_01-24"
    for folder in sorted(root.glob("Actor_*")):
        shutil.copytree(folder, copy / folder.name)


def twice_and_different(root: Path) -> None:
    twice(root)
    for number, path in enumerate(sorted((root / "audio_speech_actors_01-24").rglob("*.wav"))):
        other_sound(path, number)


def twice_and_the_first_are_stubs(root: Path) -> None:
    twice(root)
    for path in root.glob("Actor_*/*.wav"):
        path.write_text(f"version https://git-lfs.github.com/spec/v1\noid {path.name}\n", encoding="utf-8")


def names_that_are_wrong(root: Path) -> None:
    first = root / "Actor_01" / "03-01-01-01-01-01-01.wav"
    for name in (
        "03-01-09-01-01-01-01.wav",
        "#1/03-01-01.wav",
        " 2/03-01-02.wav",
        "a: b/03-01-03 .wav",
        "c\nd/03-01-04.wav",
    ):
        copied(first, root / name)


def every_fault_of_emodb(root: Path) -> None:
    copied(root / "wav/03a01Wa.wav", root / "wav/beep.wav")
    other_sound(root / "wav/other/03a01Wa.wav")
    replaced(root / "erkennung.txt", "2\t03a01La.wav\t95,00", "2\t03a01La.wav\t195,00")
    replaced(root / "erkennung.txt", "3\t03a01Ea.wav\t95,00\t80,00\n", "")
    added(root / "erkennung.txt", "98\t03a01Aa.wav\t95,00\t85,00", "99\t03a01Aa.wav\t95,00\t80,00", "x")


def every_fault_of_crema_d(root: Path) -> None:
    votes = root / "processedResults/tabulatedVotes.csv"
    copied(root / "AudioWAV/1001_IEO_ANG_HI.wav", root / "AudioWAV/beep.wav")
    other_sound(root / "AudioWAV/other/1001_IEO_ANG_HI.wav")
    (root / "AudioWAV/1003_IEO_SAD_HI.wav").unlink()
    lines = votes.read_text(encoding="utf-8").splitlines()
    lines[2] = "100002,x,3,2,0,0,0,1001_IEO_DIS_HI"
    del lines[3]
    votes.write_text(
        "\n".join([*lines, "100099,1,0,0,0,0,0,1001_IEO_ANG_HI", "400001,,,,,,,x"]) + "\n", encoding="utf-8"
    )
    added(root / "VideoDemographics.csv", "1002,21,Male", "x,1,Male")


def every_fault_of_esd(root: Path) -> None:
    other_sound(root / "0011/Angry/train/0011_000001.wav")
    copied(
        root / "0011/Angry/0011_000001.wav", root / "0011/Bored/0011_000009.wav", root / "0012/Angry/0011_000008.wav"
    )
    added(root / "0012/0012.txt", "0012_000001\tA sentence\tHappy")


def every_fault_of_msp_podcast(root: Path) -> None:
    consensus, detailed = root / "Labels/labels_consensus.csv", root / "Labels/labels_detailed.csv"
    replaced(consensus, "MSP-PODCAST_0001_0001.wav,H", "MSP-PODCAST_0001_0001.wav,Q")
    replaced(consensus, "MSP-PODCAST_0001_0002.wav,N,3", "MSP-PODCAST_0001_0002.wav,N,9")
    same = "MSP-PODCAST_0001_0003.wav,S,3,4,5,0001,Female,Train"
    added(
        consensus,
        same,
        same.replace(",S,", ",A,"),
        "beep.wav,S,3,4,5,1,Male,Train",
        "x",
        same.replace("_0003", "_0099"),
    )
    added(detailed, "MSP-PODCAST_0001_0003.wav,WORKER0,Puzzled,,3,4,5", "MSP-PODCAST_0001_0098.wav,WORKER0,Sad,,3,4,5")


def every_fault_of_iemocap(root: Path) -> None:
    first, second, *_ = sorted(root.glob("Session1/dialog/EmoEvaluation/Ses*.txt"))
    head, block, *rest = re.split(rb"(?:\r?\n){2,}", first.read_bytes().strip())
    first.write_bytes(b"\n\n".join([head, block, block, b"[nonsense", *rest]) + b"\n")
    copied(second, second.with_name("notes.txt"))


ROWS = "".join(
    f"audio/{speaker}-{number}.wav,{speaker},{('low', 'high')[number % 2]},2,1\n"
    for speaker in "abcd"
    for number in range(6)
)
HEADER = "path,speaker,label,votes_low,votes_high\n"


def table_of(*more: str, old: str = "", new: str = "") -> Callable[[Path], None]:
    def write(table: Path) -> None:
        table.write_text(
            HEADER + (ROWS.replace(old, new) if old else ROWS) + "".join(f"{line}\n" for line in more), "utf-8"
        )

    return write


def audio_that_cannot_be_used(table: Path) -> None:
    audio = table.parent / "audio"
    soundfile.write(audio / "a-0.wav", np.zeros(8000), 16000)
    (audio / "b-0.wav").write_bytes((audio / "b-0.wav").read_bytes()[:2000])
    (audio / "c-0.wav").unlink()


FIRST, SECOND = "audio/a-0.wav,a,low,2,1", "audio/a-1.wav,a,high,2,1"

# Corpus, what is wrong with it, and how many utterances are left in the end.
CASES = {
    "an archive with every file twice": ("ravdess", twice, 24),
    "two different files of every utterance": ("ravdess", twice_and_different, 24),
    "stubs next to good files": ("ravdess", twice_and_the_first_are_stubs, 24),
    "names of files that are no utterances": ("ravdess", names_that_are_wrong, 24),
    "every fault of emodb": ("emodb", every_fault_of_emodb, 21 - 2),
    "every fault of crema-d": ("crema-d", every_fault_of_crema_d, 18 - 3),
    "every fault of esd": ("esd", every_fault_of_esd, 30 - 1),
    "every fault of msp-podcast": ("msp-podcast", every_fault_of_msp_podcast, 24 - 2),
    "every fault of iemocap": ("iemocap", every_fault_of_iemocap, None),
    "rows that are repeated word for word": ("table", table_of(FIRST, FIRST, SECOND), 24),
    "rows of one utterance with another label": ("table", table_of(FIRST.replace("low", "high"), SECOND), 24),
    "every row with a second label": (
        "table",
        table_of(*ROWS.replace("low", "LOW").replace("high", "low").replace("LOW", "high").splitlines()),
        24,
    ),
    "cells that cannot be read": (
        "table",
        table_of(",a,low,1,1", "audio/a-2.wav,,low,1,1", "audio/a-3.wav,a,high,x,1"),
        24,
    ),
    "a first row that cannot be read": ("table", table_of(FIRST, old=FIRST, new=FIRST.replace("2,1", "x,1")), 24),
    "speakers that look alike": ("table", table_of(old="-0.wav,a,", new="-0.wav,A ,"), 24),
    "a label that looks like another": ("table", table_of(old="-0.wav,a,low", new="-0.wav,a,Low"), 24),
    "labels unlike the columns of votes": ("table", table_of(old=",low,", new=",LOW,"), 24),
    "audio that cannot be used": ("table", audio_that_cannot_be_used, 24 - 3),
}


@pytest.fixture
def describe(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Function that runs the command line in this process and returns its message, empty if all went well."""

    def call(words: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["__main__.py", "describe", *words])
        code = run_command(__main__.main)
        message = capfd.readouterr().err
        assert code in (0, 2)
        assert bool(message) == (code == 2)
        return message

    return call


@pytest.mark.parametrize("case", CASES)
def test_advice_leads_to_a_corpus_with_all_that_is_good(
    case: str, tmp_path: Path, describe: Callable[[list[str]], str]
) -> None:
    name, damage, left = CASES[case]
    root = BUILDERS[name](tmp_path / "corpus")
    whole = len(load(name, root))
    damage(root)
    reader = Reader(name, root, tmp_path)
    for _ in range(MOST_ROUNDS):
        if not (message := describe(reader.words())):
            break
        reader.follow(message)
    else:
        pytest.fail(f"not clean after {MOST_ROUNDS} rounds: {message}")
    assert len(reader.load()) == (whole if left is None else left)


def one_actor_under_two_names(root: Path) -> None:
    for path in root.glob("Actor_02/*.wav"):
        copied(path, root / "Actor_03" / f"{path.stem[:-2]}03.wav")


def published_split(table: Path) -> None:
    """Put the rows of a table into the subsets of a split in turn, so that every speaker is in all of them."""
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    subsets = ("train", "dev", "test")
    lines = [f"{header},split", *(f"{row},{subsets[number % 3]}" for number, row in enumerate(rows))]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def published_split_with_copies(table: Path) -> None:
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    subset = {"a": "train", "b": "train", "c": "validation", "d": "test"}
    lines = [f"{header},official_subset", *(f"{row},{subset[row.split(',')[1]]}" for row in rows)]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    audio = table.parent / "audio"
    copied(audio / "a-0.wav", audio / "d-0.wav", audio / "d-1.wav", audio / "b-1.wav")


def recordings_of_two_speakers(table: Path) -> None:
    rows = ROWS.replace("audio/b-0.wav,b,low", "audio/a-0.wav,b,high").replace("audio/d-1.wav,d", "audio/c-1.wav,d")
    lines = [f"{number},{row}" for number, row in enumerate(rows.splitlines())]
    table.write_text("\n".join([f"utterance_id,{HEADER.strip()}", *lines]) + "\n", encoding="utf-8")


def dialogues(table: Path) -> None:
    lines = ["path,start,end,speaker,label"]
    for dialogue in "abcd":
        for turn in range(6):
            speaker, label = dialogue + str(turn % 2), ("low", "high")[turn // 2 % 2]
            lines.append(f"audio/{dialogue}-0.wav,{turn / 15:.3f},{(turn + 1) / 15:.3f},{speaker},{label}")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


# Corpus, what leaks, and how many utterances are left in the end.
LEAKS = {
    "an actor under two names": ("ravdess", one_actor_under_two_names, 24 - 6),
    "a published split that mixes speakers": ("table", published_split, 24),
    "a published split with copies": ("table", published_split_with_copies, 24 - 2),
    "recordings of two speakers": ("table", recordings_of_two_speakers, 24 - 4),
    "dialogues in which partners are cut from one recording": ("table", dialogues, 24),
}


@pytest.mark.parametrize("case", LEAKS)
def test_advice_about_leaks_leads_to_folds_with_all_that_is_good(case: str, tmp_path: Path) -> None:
    name, leak, left = LEAKS[case]
    root = BUILDERS[name](tmp_path / "corpus")
    leak(root)
    reader = Reader(name, root, tmp_path)
    for _ in range(MOST_ROUNDS):
        corpus = reader.load()
        try:
            store = open_store(corpus, "panns_16k", tmp_path / "store")
            for number in range(1, split(corpus, None, reader.split_by).count + 1):
                check_disjoint(corpus, split(corpus, number, reader.split_by), store.content)
            break
        except UserError as error:
            reader.follow(str(error))
    else:
        pytest.fail(f"leaks after {MOST_ROUNDS} rounds")
    assert len(corpus) == left
