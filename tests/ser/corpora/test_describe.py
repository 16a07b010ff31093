"""Results of `python -m ser.corpora describe` on corpora whose numbers are known by hand."""

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ser.corpora import Corpus, __main__, load
from ser.description.figures import draw, draw_classes, draw_durations, draw_entropy
from ser.description.printing import print_description
from ser.description.summary import describe
from ser.utils.command_line import run_command

ROOT = Path(__file__).resolve().parents[3]
RAVDESS = os.environ.get("SER_RAVDESS_ROOT")


def tone(seconds, rate, frequency=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def command(monkeypatch, capfd):
    """Function that runs the command line in this process and returns exit code, stdout and stderr."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["__main__.py", *map(str, words)])
        try:
            code = run_command(__main__.main)
        except SystemExit as stop:  # how the parser of the command line ends
            code = stop.code
        printed, wrong = capfd.readouterr()
        assert "Traceback" not in wrong
        return code, printed, wrong

    return call


@pytest.fixture
def tree(tmp_path):
    """Five utterances: a WAV, the same as FLAC, a stereo file, a cut of it, and a truncated WAV."""
    root = tmp_path / "tree"
    root.mkdir()
    integers = np.round(32767 * tone(1.0, 16000)).astype(np.int16)  # of floats, either format's rounding is its own
    soundfile.write(root / "one.wav", integers, 16000)
    soundfile.write(root / "two.flac", integers, 16000)
    both = np.stack([tone(2.0, 44100, level=1.0), tone(2.0, 44100, 880.0, 1.0)], axis=1)
    soundfile.write(root / "long.wav", both, 44100, subtype="PCM_24")
    soundfile.write(root / "torn.wav", tone(3.0, 16000), 16000)
    torn = (root / "torn.wav").read_bytes()
    (root / "torn.wav").write_bytes(torn[: len(torn) // 2])
    (root / "table.csv").write_text(
        "path,utterance_id,speaker,gender,session,label,start,end,votes_happy,votes_sad\n"
        "one.wav,one,A,f,1,happy,,,3,0\n"
        "two.flac,two,B,m,2,sad,,,1,2\n"
        "long.wav,long,C,,3,happy,,,2,1\n"
        "long.wav,long: cut,C,,3,sad,0.5,1.25,0,3\n"
        "torn.wav,torn: off,A,f,1,sad,,,0,5\n",
        encoding="utf-8",
    )
    return root


def test_every_number_is_the_one_known_by_hand(tree, command, tmp_path):
    code, printed, wrong = command("describe", "table", "--root", tree / "table.csv", "--output", tmp_path / "out")
    assert code == 2  # for the torn file
    assert "truncated" in wrong
    found = json.loads((tmp_path / "out" / "describe.json").read_text())
    # 1 + 1 + 2 + .75 s; the truncated file is not counted.
    assert found["size"] == {
        "utterances": 4,
        "hours": pytest.approx(4.75 / 3600),
        "shortest_seconds": 0.75,
        "shortest_utterance": "long: cut",
        "median_seconds": 1.0,
        "longest_seconds": 2.0,
        "longest_utterance": "long",
        "speakers": 3,
        "speakers_by_gender": {"female": 1, "male": 1, "unknown": 1},
        "speakers_of_several_genders": [],
        "utterances_by_session": {"1": 1, "2": 1, "3": 2},
    }
    assert found["audio"] == {
        "sample_rates": {"16000": 2, "44100": 2},
        "channels": {"1": 2, "2": 2},
        "formats": {"FLAC PCM_16": 1, "WAV PCM_16": 1, "WAV PCM_24": 2},
        # Two tones of amplitude ½, and two means of two tones of amplitude 1: powers ⅛ and ¼.
        "median_level_dbfs": pytest.approx(5 * np.log10(1 / 8 / 4), abs=0.01),
        "warnings": [],
        **dict.fromkeys(("quiet_utterances", "clipped_utterances", "clipped_samples"), 0),
    }
    common = {"utterances": 2, "share": 0.5, "speakers": 2}
    assert found["classes"] == [
        {"class": "happy", **common, "hours": pytest.approx(3 / 3600), "by_gender": {"female": 1, "unknown": 1}},
        {"class": "sad", **common, "hours": pytest.approx(1.75 / 3600), "by_gender": {"male": 1, "unknown": 1}},
    ]
    assert (found["outside"], found["excluded"], found["ratings"]) == ({}, [], {})
    assert found["folds"]["unit"] == "session"
    folds = [(fold["speakers"], fold["utterances"]) for fold in found["folds"]["groups"]]
    assert folds == [(["A"], 1), (["B"], 1), (["C"], 2)]
    assert found["duplicates"] == [
        {
            "utterances": ["one", "two"],
            "speakers": ["A", "B"],
            "labels": ["happy", "sad"],
            "crosses_speakers": True,
            "different_labels": True,
        }
    ]
    assert [fault["utterance_id"] for fault in found["faults"]] == ["torn: off"]
    for words in ("one = two; LABELS DIFFER: happy, sad; SPEAKERS DIFFER: A, B", "0.75 s  long: cut", "44100 Hz: 2"):
        assert words in printed
    rows = pd.read_csv(tmp_path / "out" / "utterances.csv").set_index("utterance_id")
    assert dict(rows["seconds"]) == {"one": 1.0, "two": 1.0, "long": 2.0, "long: cut": 0.75}
    assert dict(rows["stratum"]) == {
        "one": "unanimous",
        "two": "majority",
        "long": "majority",
        "long: cut": "unanimous",
    }
    assert dict(rows["entropy"]) == pytest.approx(
        {"one": 0, "two": 0.918296, "long": 0.918296, "long: cut": 0}, abs=1e-5
    )
    assert rows["content"]["one"] == rows["content"]["two"] != rows["content"]["long"]
    assert rows["level_dbfs"]["one"] == pytest.approx(10 * np.log10(0.5**2 / 2), abs=0.01)


def test_agreement_is_the_one_known_by_hand(tree, command, tmp_path):
    command("describe", "table", "--root", tree / "table.csv", "--output", tmp_path)
    # Votes (3, 0), (2, 1), (1, 2), (0, 3). The mean agreement of pairs is 2/3, by chance 1/2.
    # One left out: three of the four pairs with a reference are right, for either class; each of the other four has a
    # tie. An utterance's influence on the UAR is ±.75 / 8.
    assert json.loads((tmp_path / "describe.json").read_text())["agreement"] == {
        "over": "utterances of the classes that have votes",
        "utterances": 4,
        "votes": 12,
        "votes_per_utterance": {"min": 3, "median": 3.0, "max": 3},
        "strata": {"unanimous": 0.5, "majority": 0.5, "plurality": 0.0, "none": 0.0},
        "fleiss_kappa": pytest.approx(1 / 3),
        "krippendorff_alpha": pytest.approx(1 - 2 / 3 * 11 / 12),
        "human_ceiling": {
            "uar": 0.75,
            "standard_error": pytest.approx(np.sqrt(4 / 3 * 4 * (0.75 / 8) ** 2)),
            "accuracy": 0.75,
            "recall": {"happy": 0.75, "sad": 0.75},
            "pairs": 8,
            "skipped": 4,
            "annotators": 0,
        },
        "self_evaluations": None,
        "mean_vote_entropy": pytest.approx(0.918296 / 2, abs=1e-6),
        "entropy_utterances": 4,
        "most_possible_disagreement": 0.5,
    }


def test_the_list_of_errors_can_be_excluded_as_it_is(tree, command, tmp_path):
    words = ("describe", "table", "--root", tree / "table.csv", "--output", tmp_path / "out")
    _, before, wrong = command(*words)
    assert f"--exclude {tmp_path / 'out' / 'faults.txt'}" in wrong
    faulty = json.loads((tmp_path / "out" / "describe.json").read_text())
    (tmp_path / "out" / "faults.txt").rename(tmp_path / "list.txt")
    code, after, wrong = command(*words, "--exclude", tmp_path / "list.txt")
    assert (code, wrong) == (0, "")
    whole = json.loads((tmp_path / "out" / "describe.json").read_text())
    assert (whole["excluded"], whole["faults"]) == (["torn: off"], [])
    assert {**whole, "excluded": [], "faults": []} == {**faulty, "faults": []}
    assert [line for line in before.splitlines() if "faults.txt" not in line and "excluded" not in line] == [
        line for line in after.splitlines() if "excluded" not in line
    ]


def test_every_error_is_listed_and_files_of_an_earlier_description_are_removed(tree, command, tmp_path):
    (tree / "two.flac").write_bytes(b"")
    soundfile.write(tree / "one.wav", np.zeros(16000), 16000)
    out = tmp_path / "out"
    code, printed, wrong = command("describe", "table", "--root", tree / "table.csv", "--output", out)
    assert code == 2
    assert "3 errors" in wrong
    for words in ("one: silent", "two: file is empty", "torn: off: truncated"):
        assert words in wrong
    assert "No folds: corpus 'table' has 1 speaker(s)" in printed
    assert {path.name for path in out.iterdir()} == {
        "classes.png", "describe.json", "durations.png", "faults.txt", "utterances.csv", "vote_entropy.png",
    }  # fmt: skip
    (tree / "table.csv").write_text("path,speaker,label\nlong.wav,C,a\ntorn.wav,C,b\n")
    soundfile.write(tree / "torn.wav", tone(0.5, 16000), 16000)
    assert command("describe", "table", "--root", tree / "table.csv", "--output", out)[0] == 0
    assert {path.name for path in out.iterdir()} == {"classes.png", "describe.json", "durations.png", "utterances.csv"}


def test_a_corpus_without_a_sound_utterance_has_errors_alone(tree, command):
    for path in tree.glob("*.*a*"):
        if path.suffix != ".csv":
            path.unlink()
    code, printed, wrong = command("describe", "table", "--root", tree / "table.csv")
    assert (code, printed) == (2, "")
    assert "5 errors" in wrong
    assert wrong.count("file is missing") == 5


def test_errors_of_the_corpus_itself_are_listed_by_the_loader(tree, command):
    for emotion in ("09", "01"):
        soundfile.write(tree / f"03-01-{emotion}-01-01-01-01.wav", tone(0.5, 16000), 16000)
    code, _, wrong = command("describe", "ravdess", "--root", tree)
    assert code == 2
    assert "emotion '09'" in wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ravdes"], ["corpus 'ravdes'", "'ravdess'"]),
        (["ravdess"], ["needs its root", "--root PATH"]),
        (["ravdess", "--root", "/no/such/folder"], ["/no/such/folder", "does not exist"]),
        (["synthetic", "--root", "."], ["takes no root"]),
        (["synthetic", "--exclude", "/no/list.txt"], ["--exclude", "/no/list.txt"]),
        (["synthetic", "--corpus-options", "votes"], ["'votes'", "KEY=VALUE"]),
        (["synthetic", "--corpus-options", "votes=face"], ["has no options"]),
        (["synthetic", "--output", "/dev/null/here"], ["--output '/dev/null/here' is not writable"]),
        (["synthetic", "--output", __file__], ["--output", "is not writable"]),
        (["synthetic", "--exclude", "a", "--exclude", "b"], ["--exclude is given twice"]),
        ([], ["required"]),
    ],
)
def test_a_mistake_is_reported_in_one_message_before_anything_is_decoded(command, words, said):
    code, printed, wrong = command("describe", *words)
    assert (code, printed) == (2, "")
    for text in said:
        assert text in " ".join(wrong.split())


def test_the_command_fetch_is_available(command, tmp_path):
    code, _, wrong = command("fetch", "iemocap", "--root", tmp_path)
    assert code == 2
    assert "cannot be fetched" in wrong


def test_the_command_itself_prints_plain_lines_into_a_pipe(tree):
    done = subprocess.run(
        [sys.executable, "-m", "ser.corpora", "describe", "table", "--root", tree / "table.csv"],
        capture_output=True, text=True, cwd=ROOT, check=False, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "\x1b" not in done.stdout + done.stderr
    assert "fold  held out  speakers  utterances  hours" in done.stdout
    assert "Fleiss' kappa" in done.stdout
    assert done.stderr.startswith("error: corpus 'table': 1 error:")


def test_the_same_samples_at_another_rate_are_not_the_same_audio(tmp_path, command):
    samples = tone(1.0, 16000)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    soundfile.write(tmp_path / "b.wav", samples, 8000)
    soundfile.write(tmp_path / "c.wav", np.stack([samples, samples], axis=1), 16000)
    (tmp_path / "t.csv").write_text("path,speaker,label\na.wav,s,x\nb.wav,s,y\nc.wav,s,x\n")
    code, printed, _ = command("describe", "table", "--root", tmp_path / "t.csv")
    assert code == 0
    assert "Same audio:\n  a = c\n" in printed


def corpus_of(rows, classes=("x", "y"), seconds=0.1, **others):
    columns = {"speaker": "s", "label": classes[0]}
    table = pd.DataFrame([{**columns, **row} for row in rows])
    table["votes"] = pd.Series([row.get("votes") for row in rows], dtype=object)

    def synthesize(utterance_id):
        rng = np.random.default_rng(list(utterance_id.encode()))
        return rng.normal(0, 0.1, round(16000 * seconds)).astype(np.float32)

    return Corpus("made up", table, classes, synthesize=synthesize, **others)


def test_annotations_count_utterances_outside_the_classes_too():
    said = [("u", "ann", "x"), ("u", "bob", "x"), ("u", "eve", "z"), ("v", "ann", "y"), ("v", "bob", "y")]
    said += [("gone", "ann", "z"), ("gone", "bob", "q")]
    own = [("u", "self", "x"), ("u", "self", "y"), ("v", "self", "y"), ("gone", "self", "x")]
    rows = [(*line, False) for line in said] + [(*line, True) for line in own]
    annotations = pd.DataFrame(rows, columns=["utterance_id", "annotator", "label", "is_self"])
    table = [
        {"utterance_id": "u", "label": "x", "votes": (2, 0), "other_votes": 1},
        {"utterance_id": "v", "label": "y", "votes": (0, 2), "other_votes": 0},
    ]
    found = describe(corpus_of(table, annotations=annotations, outside={"xxx": 1})).numbers
    agreement = found["agreement"]
    assert found["outside"] == {"xxx": 1}
    assert agreement["over"].startswith("all annotated utterances")
    assert (agreement["utterances"], agreement["votes"]) == (3, 7)
    assert agreement["votes_per_utterance"] == {"min": 2, "median": 2.0, "max": 3}
    third = pytest.approx(1 / 3)
    assert agreement["strata"] == {"unanimous": third, "majority": third, "plurality": 0, "none": third}
    # Pairs agree in 1/3, 1 and 0; the shares of x, y, z and q are (2/3, 1, 1/3 + 1/2, 1/2) / 3.
    chance = sum(share**2 for share in (2 / 9, 1 / 3, 5 / 18, 1 / 6))
    assert agreement["fleiss_kappa"] == pytest.approx((4 / 9 - chance) / (1 - chance))
    # The three pairs of u: others (1, 0), right twice; (2, 0), wrong. Both of v right; no reference for the rest.
    assert agreement["human_ceiling"]["recall"] == {"x": pytest.approx(2 / 3), "y": 1.0}
    assert agreement["human_ceiling"]["annotators"] == 3
    assert agreement["self_evaluations"] == {"evaluations": 2, "accuracy": 0.75, "uar": 0.75}
    assert agreement["most_possible_disagreement"] == 0.0
    assert (agreement["mean_vote_entropy"], agreement["entropy_utterances"]) == (0.0, 2)


def test_votes_for_none_of_the_classes_count_without_annotations_too():
    rows = [{"utterance_id": name, "votes": (count, 0), "other_votes": 1} for name, count in (("a", 2), ("b", 1))]
    agreement = describe(corpus_of(rows, ("x", "other"))).numbers["agreement"]
    # Both votes for x of a are right, and the other ones wrong; the vote for x of b has no reference.
    assert (agreement["votes"], agreement["human_ceiling"]["pairs"], agreement["human_ceiling"]["uar"]) == (5, 4, 0.5)
    assert agreement["strata"] == {"unanimous": 0, "majority": 0.5, "plurality": 0, "none": 0.5}


def test_ratings_are_means_and_deviations_by_class():
    rows = [
        {"utterance_id": "a", "label": "x", "valence": 2.0, "recognition": 0.5},
        {"utterance_id": "b", "label": "x", "valence": 4.0, "recognition": np.nan},
        {"utterance_id": "c", "label": "y", "valence": np.nan, "recognition": np.nan},
    ]
    found = describe(corpus_of(rows)).numbers
    root2 = pytest.approx(2**0.5)
    assert found["agreement"] is None
    assert found["ratings"] == {
        "valence": {
            "x": {"mean": 3.0, "sd": root2, "utterances": 2},
            "y": {"mean": None, "sd": None, "utterances": 0},
            "all": {"mean": 3.0, "sd": root2, "utterances": 2},
        },
        "recognition": {
            "x": {"mean": 0.5, "sd": None, "utterances": 1},
            "y": {"mean": None, "sd": None, "utterances": 0},
            "all": {"mean": 0.5, "sd": None, "utterances": 1},
        },
    }


def test_a_recording_shared_by_speakers_is_reported_where_the_folds_would_be():
    rows = [{"utterance_id": str(i), "speaker": f"s{i}", "path": "same"} for i in range(3)]
    folds = describe(corpus_of(rows)).numbers["folds"]
    assert folds["groups"] == []
    assert "leak" in folds["problem"]


@pytest.mark.parametrize(("gain", "quiet", "clipped"), [(0.5, 1, 0), (1.0, 0, 1600)])
def test_quiet_utterances_and_clipped_samples_are_counted(gain, quiet, clipped):
    levels = {"soft": 0.004, "loud": 1.0, "plain": 0.01}  # −54 dB at half the gain, and −48 dB
    table = pd.DataFrame([{"utterance_id": name, "speaker": "s", "label": "x"} for name in levels])
    square = np.tile(np.array([gain, -gain], dtype=np.float32), 800)
    audio = describe(Corpus("made up", table, ("x", "y"), synthesize=lambda name: levels[name] * square)).numbers[
        "audio"
    ]
    assert (audio["quiet_utterances"], audio["clipped_samples"]) == (quiet, clipped)
    assert audio["clipped_utterances"] == (clipped > 0)


def test_few_utterances_are_in_memory_at_a_time_and_each_is_reported():
    made = []
    most = 0

    def synthesize(name):
        nonlocal most
        samples = np.full(1600, float(name), dtype=np.float32)
        made.append(weakref.ref(samples))
        most = max(most, sum(samples() is not None for samples in made))
        return samples

    table = pd.DataFrame([{"utterance_id": str(i), "speaker": "s", "label": "x"} for i in range(200)])
    seen = []
    describe(Corpus("many", table, ("x", "y"), synthesize=synthesize), lambda *done: seen.append(done), workers=2)
    assert seen == [(done, 200) for done in range(1, 201)]
    assert most <= 3


def test_figures_show_every_utterance(tones, tmp_path):
    found = describe(tones)
    durations = draw_durations(found.utterances, tones.classes)
    assert [sum(bar.get_height() for bar in axes.patches) for axes in durations.axes] == [12, 12]
    assert durations.axes[-1].get_xlabel() == "duration (s)"
    sessions = found.utterances.assign(session=[f"s{i % 3}" for i in range(24)], gender="female")
    bars, table = draw_classes(sessions, tones.classes).axes
    assert [bar.get_width() for bar in bars.patches] == [12, 12]
    assert sum(int(text.get_text()) for text in table.texts) == 24
    (entropy,) = draw_entropy(found.utterances).axes
    assert sum(bar.get_height() for bar in entropy.patches) == 24
    assert [path.name for path in draw(found.utterances, tones.classes, tmp_path)] == [
        "durations.png", "classes.png", "vote_entropy.png",
    ]  # fmt: skip


def test_names_that_look_like_markup_are_printed_and_drawn_as_they_are(tmp_path):
    classes = ("[bold]$x_$", ":smile:")
    found = describe(corpus_of([{"utterance_id": "[red]", "label": name} for name in classes[:1]], classes))
    console = Console(
        markup=False, emoji=False, highlight=False, width=80, record=True, file=(tmp_path / "o").open("w")
    )
    print_description(found.numbers, console)
    printed = console.export_text()
    for name in (*classes, "[red]"):
        assert name in printed
    assert len(draw(found.utterances, classes, tmp_path)) == 2


@st.composite
def corpora(draw):
    count = draw(st.integers(1, 12))
    classes = draw(st.sampled_from([("x", "y"), ("other", "y", "z")]))
    vote = st.none() | st.tuples(*[st.integers(0, 3)] * len(classes)).filter(any)
    number = st.floats(1, 5) | st.just(np.nan)
    rows = [
        {
            "utterance_id": f"u{i}",
            "speaker": draw(st.sampled_from("abcd")),
            "gender": draw(st.sampled_from(["female", "male", "unknown"])),
            "session": draw(st.sampled_from(["", "1", "2", "3"])),
            "label": draw(st.sampled_from(classes)),
            "votes": draw(vote),
            "other_votes": draw(st.integers(0, 2)),
            "valence": draw(number),
        }
        for i in range(count)
    ]
    choices = (["u0", "u1", "elsewhere"], ["ann", "bob", None], [*classes, "q"], [False, True])
    said = st.tuples(*map(st.sampled_from, choices))
    frame = pd.DataFrame(draw(st.lists(said, max_size=8)), columns=["utterance_id", "annotator", "label", "is_self"])
    return corpus_of(rows, classes, 0.01, annotations=draw(st.sampled_from([None, frame])))


@settings(max_examples=60, deadline=None)
@given(corpora())
def test_any_valid_corpus_can_be_described_in_json_and_80_columns(corpus):
    found = describe(corpus, workers=1)
    assert json.loads(json.dumps(found.numbers, allow_nan=False)) == found.numbers
    assert sum(row["utterances"] for row in found.numbers["classes"]) == len(corpus) == len(found.utterances)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            markup=False, emoji=False, highlight=False, width=80, file=nowhere, record=True, force_terminal=True
        )
        print_description(found.numbers, console)
    lines = console.export_text().splitlines()
    assert max(len(line) for line in lines if not line.startswith("No folds")) <= 80


@pytest.mark.skipif(not RAVDESS, reason="SER_RAVDESS_ROOT does not name a RAVDESS tree")
def test_ravdess_has_one_pair_of_the_same_audio(command):
    code, printed, wrong = command("describe", "ravdess", "--root", RAVDESS)
    assert (code, wrong) == (0, "")
    assert "Same audio:\n  03-01-03-01-02-01-07 = 03-01-03-01-02-02-07\n" in printed
    assert "24: 12 female, 12 male" in printed


def test_a_gender_that_some_rows_do_not_say_is_not_a_second_one(tree, command, tmp_path):
    table = (tree / "table.csv").read_text(encoding="utf-8").replace("torn.wav,torn: off,A,f", "one.wav,again,A,")
    (tree / "table.csv").write_text(table.replace("long: cut,C,", "long: cut,C,m"), encoding="utf-8")
    code, _, wrong = command("describe", "table", "--root", tree / "table.csv", "--output", tmp_path / "out")
    assert (code, wrong) == (0, "")
    size = json.loads((tmp_path / "out" / "describe.json").read_text())["size"]
    assert size["speakers_by_gender"] == {"female": 1, "male": 2}
    assert size["speakers_of_several_genders"] == []


def test_folds_are_described_by_the_way_that_is_asked_for() -> None:
    corpus = load("synthetic")
    folds = [describe(corpus, split_by=by).numbers["folds"] for by in ("auto", "speaker")]
    assert [(found["unit"], len(found["groups"])) for found in folds] == [("session", 5), ("speaker", 10)]
