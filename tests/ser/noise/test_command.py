"""Noisy labels as files: what is written, that it reads back, and every mistake."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import ser.corpora
from ser.corpora import Corpus, load
from ser.corpora.tables.published import ANCESTOR_COLUMNS
from ser.noise import corrupt
from ser.noise.__main__ import main
from ser.noise.label_files import stem, transition_csv
from ser.noise.recipes import recipe_named
from ser.noise.transition_figure import draw_transition, luminance
from ser.splits import fold_groups, split
from ser.utils.command_line import run_command
from ser.utils.errors import DataErrors, UserError
from ser.utils.hashing import digest
from tests.helpers.iemocap_tree import COUNTS_1_TO_4, build, build_full

WRITTEN = ["manifest.json", "test.csv", "train.csv", "transition.csv", "transition.png"]


class Called(NamedTuple):
    code: int
    out: str
    error: str


Call = Callable[..., Called]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in this process; whitespace in what it says is one space."""

    def run(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["ser.noise", *map(str, arguments)])
        try:
            code = run_command(main)
        except SystemExit as stop:  # how the parser of the command line ends
            code = int(stop.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Called(code, " ".join(said.out.split()), " ".join(said.err.split()))

    return run


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a process of its own has written: 26.48 % disagreement on the synthetic corpus."""
    folder = tmp_path_factory.mktemp("noise")
    arguments = ["synthetic", "--recipe", "disagreement", "--rate", "0.2648", "--output", str(folder / "out")]
    done = process(arguments, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ambivalent study --corpus table --corpus-root" in done.stdout
    assert "hard-26.48-train.csv --noise given" in done.stdout
    assert "102 of 384 training labels are wrong, 26.56%" in done.stdout
    return folder / "out"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IEMOCAP with six utterances of each class in each session."""
    return build(tmp_path_factory.mktemp("iemocap"), per_class=6)


def process(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(ser.corpora.__file__).parents[2]), "COLUMNS": "200"}
    command = [sys.executable, "-m", "ser.noise", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def labels_of(*corpora: Corpus) -> dict[str, str]:
    return {
        id_: label
        for corpus in corpora
        for id_, label in zip(corpus.table["utterance_id"], corpus.table["label"], strict=True)
    }


def assert_reads_back(original: Corpus, folder: Path, rate: float, recipe: str, stem: str) -> None:
    """The two files are the corpus with noisy labels: truth, votes, speakers, sessions, splits and digest."""
    fold = split(original)
    rows = np.setdiff1d(np.arange(len(original)), fold.test)
    noisy = corrupt(original, recipe, rate, 0, {"train": rows})
    parts = {"train": rows, "test": fold.test}
    read = {part: load("table", folder / f"{stem}-{part}.csv") for part in parts}
    for part, positions in parts.items():
        expected, found = original.table.iloc[positions].reset_index(drop=True), read[part].table
        assert found["utterance_id"].tolist() == expected["utterance_id"].tolist()
        assert found["label"].tolist() == noisy.labels[positions].tolist()
        assert found["true_label"].tolist() == expected["label"].tolist()
        for column in ("speaker", "session", "gender", "votes"):
            assert found[column].tolist() == expected[column].tolist()
        assert found[["start", "end"]].equals(expected[["start", "end"]])
        assert read[part].other_votes.tolist() == original.other_votes[positions].tolist()
        if original.votes is not None:
            assert read[part].classes == original.classes
    manifest = json.loads((folder / f"{stem}-manifest.json").read_text())
    assert manifest["digest"] == digest(labels_of(*read.values()))
    assert manifest["digest"] == noisy.manifest["digest"]
    assert manifest["rate_realised"] == noisy.manifest["rate_realised"]
    groups = {group for group in fold_groups(original)[1] if set(group) <= set(read["train"].table["speaker"])}
    if fold.unit == "session":
        assert set(fold_groups(read["train"])[1]) == groups


# What is written


def test_the_files_have_the_ancestors_names_and_columns(synthetic: Path) -> None:
    assert sorted(path.name for path in synthetic.iterdir()) == ["audio", *(f"hard-26.48-{name}" for name in WRITTEN)]
    for part in ("train", "test"):
        content = (synthetic / f"hard-26.48-{part}.csv").read_bytes()
        assert b"\r" not in content
        header = next(csv.reader(io.StringIO(content.decode())))
        assert tuple(header[:7]) == ANCESTOR_COLUMNS
        votes = [f"votes_{name}" for name in ("ang", "exc", "fru", "hap", "neu", "sad")]
        assert header[7:] == ["speaker", "gender", "session", *votes]


def test_the_files_of_a_generated_corpus_read_back_as_the_corpus_with_noise(synthetic: Path) -> None:
    assert_reads_back(load("synthetic"), synthetic, 0.2648, "disagreement", "hard-26.48")


def test_the_audio_of_a_generated_corpus_is_written_with_sixteen_bits(synthetic: Path) -> None:
    corpus = load("synthetic")
    assert len(list((synthetic / "audio").iterdir())) == len(corpus)
    row = rows_of(synthetic / "hard-26.48-train.csv")[5]
    samples, rate = soundfile.read(row["audio-path"], dtype="float32")
    assert (rate, soundfile.info(row["audio-path"]).subtype) == (16000, "PCM_16")
    assert np.abs(samples - corpus.synthesize(Path(row["wavfile"]).stem)).max() <= 2**-15


def test_test_rows_keep_their_label_and_soft_labels_are_shares_of_votes(synthetic: Path) -> None:
    test = rows_of(synthetic / "hard-26.48-test.csv")
    assert len(test) == 96
    assert all(row["noisy-label"] == row["ground-truth"] for row in test)
    for row in test:
        soft = json.loads(row["soft-gt"])
        votes = {name: int(row[f"votes_{name}"]) / 3 for name in ("ang", "exc", "fru", "hap", "neu", "sad")}
        assert soft == pytest.approx({name: share for name, share in votes.items() if share})


def test_a_second_call_leaves_what_is_there_alone(synthetic: Path, call: Call) -> None:
    before = {path: path.stat().st_mtime_ns for path in synthetic.rglob("*.*")}
    arguments = ("synthetic", "--recipe", "disagreement", "--rate", "0.2648", "--output", synthetic)
    assert call("export", *arguments).code == 0
    assert {path: path.stat().st_mtime_ns for path in synthetic.rglob("*.*")} == before


def test_the_same_call_writes_the_same_bytes(small: Path, call: Call, tmp_path: Path) -> None:
    for name in ("one", "two"):
        arguments = ("--recipe", "disagreement", "--rate", "0.4019", "--output", tmp_path / name)
        assert call("iemocap", "--root", small, *arguments).code == 0
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert sorted(one) == [f"hard-40.19-{name}" for name in WRITTEN]
    assert one == two


def test_files_with_other_content_are_never_overwritten(small: Path, call: Call, tmp_path: Path) -> None:
    arguments = ("iemocap", "--root", small, "--recipe", "symmetric", "--rate", "0.5", "--output", tmp_path / "o")
    assert call(*arguments).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "o").iterdir()}
    done = call(*arguments, "--seed", "1")
    assert done.code == 2
    assert "has hard-50.00-train.csv, hard-50.00-manifest.json, " in done.error
    assert "Choose another --output, or delete them." in done.error
    assert {path: path.read_bytes() for path in (tmp_path / "o").iterdir()} == before


def test_the_written_transition_is_a_recipe_and_gives_no_flip_that_it_lacks(
    small: Path, call: Call, tmp_path: Path
) -> None:
    common = ("iemocap", "--root", small, "--output", tmp_path)
    assert call(*common, "--recipe", "disagreement", "--rate", "0.5").code == 0
    file = tmp_path / "hard-50.00-transition.csv"
    assert call(*common, "--recipe", f"matrix:{file}", "--rate", "0.2").code == 0
    first, again = (
        np.array(json.loads((tmp_path / f"hard-{rate}-manifest.json").read_text())["transition_counts"])
        for rate in ("50.00", "20.00")
    )
    assert not again[first == 0].any()
    assert again.sum() - again.trace() == round(0.2 * again.sum())


def test_the_manifest_has_the_fold(small: Path, call: Call, tmp_path: Path) -> None:
    arguments = ("iemocap", "--root", small, "--recipe", "pair", "--rate", "0", "--fold", "2", "--output", tmp_path)
    assert call(*arguments).code == 0
    manifest = json.loads((tmp_path / "hard-0.00-manifest.json").read_text())
    assert (manifest["fold"], manifest["folds"], manifest["held_out"]) == (2, 5, "session")
    assert {row["session"] for row in rows_of(tmp_path / "hard-0.00-test.csv")} == {"Ses02"}


# IEMOCAP


def test_iemocaps_first_sessions_get_the_rate_to_the_utterance_and_read_back(call: Call, tmp_path: Path) -> None:
    root = build_full(tmp_path)
    done = call("iemocap", "--root", root, "--recipe", "disagreement", "--rate", "0.2648", "--output", tmp_path / "o")
    assert done.code == 0
    assert "1525 of 5758 training labels are wrong, 26.48%" in done.out
    train = rows_of(tmp_path / "o" / "hard-26.48-train.csv")
    assert len(train) == sum(COUNTS_1_TO_4.values()) == 5758
    assert sum(row["noisy-label"] != row["ground-truth"] for row in train) == 1525
    assert len(rows_of(tmp_path / "o" / "hard-26.48-test.csv")) == 1622
    assert "utterance_id" not in train[0]
    name = re.fullmatch(r"(Ses01F_impro01_F\d{3})\.wav", train[0]["wavfile"])
    assert name
    header = (root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt").read_text().partition(f"\t{name[1]}\t")[0]
    assert train[0]["timestamps"] == header.rpartition("\n")[2]
    assert train[0]["audio-path"] == f"{root}/Session1/sentences/wav/Ses01F_impro01/{name[0]}"
    assert any("a comment; with more, words" in row["comments"] for row in train)
    assert_reads_back(load("iemocap", root), tmp_path / "o", 0.2648, "disagreement", "hard-26.48")


def test_a_file_with_the_seven_columns_alone_has_iemocaps_speakers_by_name(call: Call, tmp_path: Path) -> None:
    root = build(tmp_path)
    assert call("iemocap", "--root", root, "--recipe", "symmetric", "--rate", "0.5", "--output", tmp_path).code == 0
    whole = load("table", tmp_path / "hard-50.00-train.csv")
    seven = tmp_path / "seven.csv"
    pd.read_csv(tmp_path / "hard-50.00-train.csv", dtype=str)[list(ANCESTOR_COLUMNS)].to_csv(seven, index=False)
    corpus = load("table", seven)
    assert corpus.votes is None
    assert corpus.table[["start", "end"]].isna().all(axis=None)
    columns = ["utterance_id", "path", "speaker", "gender", "session", "label", "true_label"]
    assert corpus.table[columns].equals(whole.table[columns])


def test_the_speaker_is_the_letter_of_the_turn_not_of_the_dialog(tmp_path: Path) -> None:
    lines = ["Ses01F_impro01_M003.wav,neu,/a.wav", "Ses05M_script01_1b_FXX0.wav,sad,/b.wav", "Ses02F_x_F000,sad,/c.wav"]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["wavfile,noisy-label,audio-path", *lines]))
    table = load("table", path).table
    assert table["speaker"].tolist() == ["Ses01M", "Ses02F", "Ses05F"]
    assert table["gender"].tolist() == ["male", "female", "female"]
    assert table["session"].tolist() == ["Ses01", "Ses02", "Ses05"]


def test_names_that_are_not_iemocaps_leave_the_speaker_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("wavfile,noisy-label,audio-path\nSes01F_impro01_M003.wav,neu,/a.wav\nmine.wav,sad,/b.wav\n")
    with pytest.raises(UserError, match=r"nothing names the speakers[^$]*columns=speaker=COLUMN"):
        load("table", path)


def test_a_table_with_two_path_columns_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("wavfile,noisy-label,audio-path,path,speaker\na.wav,neu,/a.wav,/b.wav,s\n")
    with pytest.raises(DataErrors, match="path: column appears more than once"):
        load("table", path)


# Other corpora


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    """Cuts of three recordings with the same name in three folders, one utterance without votes."""
    path = tmp_path / "mine" / "cuts.csv"
    path.parent.mkdir()
    rows = ["utterance_id,path,start,end,speaker,label,votes_angry,votes_sad,other_votes,true_label"]
    for number in range(12):
        cut = ("", "") if number == 11 else (0.25 * (number % 4), "" if number == 3 else 0.25 * (number % 4) + 0.2)
        votes = ("", "") if number == 5 else (2, 1) if number % 2 else (1, 2)
        label = "angry" if number % 2 else "sad"
        truth = "" if number < 3 else "sad"
        rows.append(
            f"u{number:02},s{number // 4}/a.wav,{cut[0]},{cut[1]},s{number // 4},{label},{votes[0]},{votes[1]},"
            f"{number % 3},{truth}"
        )
    path.write_text("\n".join(rows) + "\n")
    return path


def test_cuts_votes_and_names_that_are_no_file_names_read_back(cuts: Path, call: Call, tmp_path: Path) -> None:
    done = call("table", "--root", cuts, "--recipe", "symmetric", "--rate", "0.25", "--output", tmp_path / "o")
    assert done.code == 0
    assert "ground-truth is the corpus's label" in done.out
    rows = {
        row["utterance_id"]: row for part in ("train", "test") for row in rows_of(tmp_path / f"o/hard-25.00-{part}.csv")
    }
    assert rows["u01"]["timestamps"] == "[0.2500 - 0.4500]"
    assert rows["u03"]["timestamps"] == "[0.7500 - ]"
    assert rows["u11"]["timestamps"] == ""
    assert (rows["u05"]["soft-gt"], rows["u05"]["votes_sad"], rows["u05"]["other_votes"]) == ("", "", "2")
    assert_reads_back(load("table", cuts), tmp_path / "o", 0.25, "symmetric", "hard-25.00")


def test_a_class_without_training_utterances_keeps_its_label_and_a_note_is_printed(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{s}{n}.wav,s{s},{'abc'[n] if s == 2 else 'ab'[n % 2]},1,1,1" for s in range(3) for n in range(3)]
    path.write_text("\n".join(["path,speaker,label,votes_a,votes_b,votes_c", *rows]) + "\n")
    # Fold 2 tests the one speaker of class c; the default fold trains on such a speaker.
    words = ("--recipe", "disagreement", "--rate", "0", "--fold", "2")
    done = call("table", "--root", path, *words, "--output", tmp_path / "o")
    assert done.code == 0
    assert "No training utterance is c" in done.out
    assert "no train utterance is c; that file read as a table does not have the class" in done.out
    assert rows_of(tmp_path / "o" / "hard-0.00-transition.csv")[2] == {"": "c", "a": "0.0", "b": "0.0", "c": "1.0"}
    recipe_named(f"matrix:{tmp_path}/o/hard-0.00-transition.csv").chances(load("table", path))
    assert load("table", tmp_path / "o" / "hard-0.00-train.csv").classes == ("a", "b")


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "disagreemant"], ["recipe 'disagreemant'", "'disagreement'"]),
        (["--recipe", "noisy-B"], ["'noisy-B' is a level", "--recipe disagreement --rate 0.4019"]),
        (["--recipe", "clean"], ["'clean' is a level"]),
        (["--recipe", "matrix:/no/file.csv"], ["/no/file.csv"]),
        (["--rate", "26.48"], ["26.48", "0.3"]),
        (["--rate", "nan"], ["nan"]),
        (["--rate", "many"], ["many"]),
        (["--rate", "0.95"], ["most possible is disagreement:0.7"]),
        (["--fold", "9"], ["fold 9", "1 to 5"]),
        (["--output", "/dev/null/here"], ["--output '/dev/null/here' is not writable"]),
        (["--output", "~no_such_user/x"], ["--output '~no_such_user/x'"]),
        (["--output", "\udcff"], ["--output", "not writable"]),
        (["--output", "a\0b"], ["--output", "not writable"]),
        (["--root", "/no/such/folder"], ["takes no root"]),
        (["--exclude", "/no/list.txt"], ["/no/list.txt"]),
        (["--corpus-options", "votes=face"], ["no options"]),
        (["--seed", "0", "--seed", "1"], ["--seed is given twice"]),
        (["--corpus-options", "a=b", "--corpus_options", "c=d"], ["--corpus-options is given twice"]),
        (["--noise", "clean"], ["--noise"]),
        (["ravdess"], ["ravdess"]),
    ],
)
def test_a_mistake_ends_with_one_message(call: Call, tmp_path: Path, arguments: list[str], said: list[str]) -> None:
    defaults = {"--recipe": "disagreement", "--rate": "0.2", "--output": str(tmp_path / "out")}
    rest = [word for option, value in defaults.items() if option not in arguments for word in (option, value)]
    done = call("synthetic", *rest, *arguments)
    assert done.code == 2
    for words in said:
        assert words in done.error
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--recipe is missing"),
        (("ravdess", "--recipe", "human", "--rate", "0.1", "--output", "x"), "needs its root: pass --root PATH"),
        (("ravdess", "--root", "/no/dir", "--recipe", "human", "--rate", "0.1", "--output", "x"), "does not exist"),
        (("synthetics", "--recipe", "human", "--rate", "0.1", "--output", "x"), "Did you mean 'synthetic'"),
        (("synthetic", "--rate", "0.1", "--output", "x"), "--recipe"),
    ],
)
def test_a_misspelt_or_missing_name_ends_with_one_message(call: Call, arguments: tuple[str, ...], said: str) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert said in done.error


def test_a_process_ends_with_one_message(tmp_path: Path) -> None:
    wrong = process(["synthetic", "--recipe", "disagreement", "--rate", "2", "--output", "out"], tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: noise rate 2.0 is not between 0 and 1. Write 0.3 for 30 %.\n"


def test_the_help_names_both_commands(call: Call) -> None:
    done = call("--help")
    assert done.code == 0
    assert "export" in done.out
    assert "estimate" in done.out


# Files and the figure


@pytest.mark.parametrize(
    ("rate", "name"), [(0.2648, "26.48"), (0.4019, "40.19"), (1, "100.00"), (0.07, "7.00"), (0.00125, "0.13")]
)
def test_files_are_named_after_the_rate_in_percent(rate: float, name: str) -> None:
    assert stem(rate) == f"hard-{name}"


@given(
    st.lists(st.text(min_size=1).map(str.strip).filter(str.isalnum), min_size=2, max_size=4, unique=True),
    st.integers(0, 2**32),
)
def test_a_transition_file_gives_the_rates_back_exactly(classes: list[str], seed: int) -> None:
    rates = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), len(classes))
    header, *lines = list(csv.reader(io.StringIO(transition_csv(classes, rates))))
    assert header == ["", *classes]
    assert [line[0] for line in lines] == classes
    assert np.array_equal(np.array([line[1:] for line in lines], dtype=float), rates)


def test_the_heat_map_shows_every_rate_that_does_not_round_to_nothing_legibly() -> None:
    rates = np.linspace(0, 1, 25).reshape(5, 5)
    axes, _ = draw_transition("abcde", rates, "title").axes
    shown = {text.get_position(): text for text in axes.texts}
    assert set(shown) == {(j, i) for i in range(5) for j in range(5) if rates[i, j] >= 0.005}
    for (column, row), text in shown.items():
        assert float(text.get_text()) == pytest.approx(rates[int(row), int(column)], abs=0.0051)
        background = luminance(axes.images[0].cmap(rates[int(row), int(column)]))
        ink = {"white": 1.0, "black": 0.0}[str(text.get_color())]
        light, dark = max(ink, background), min(ink, background)
        assert (light + 0.05) / (dark + 0.05) > 4.5
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("noisy label", "true label")
