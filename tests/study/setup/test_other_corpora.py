"""Other corpora that a confirmation is tested on: named, loaded, matched, checked."""

import dataclasses
import json
import re
import shlex

import numpy as np
import pytest
import soundfile
from rich.console import Console

from ser.config import Config
from ser.corpora import load
from ser.features.store import open_store
from ser.training.embeddings import extractor
from ser.utils.errors import UserError
from study.options import StudyOptions
from study.setup.design import Design, OtherCorpus
from study.setup.other_corpora import OtherTests, load_others, open_tests
from tests.helpers.confirmed_records import make_design

TRAINED = ("low", "high", "shrill")


@pytest.fixture(scope="module")
def calls(tones, tmp_path_factory):
    """Return a folder with two tables of the first eight tones, ``calls.csv`` and, in German, ``rufe.csv``."""
    folder = tmp_path_factory.mktemp("calls")
    table = tones.table[["utterance_id", "speaker", "label"]].head(8)
    for name in table["utterance_id"]:
        soundfile.write(folder / f"{name}.wav", tones.synthesize(name), 16000)
    table = table.assign(path=table["utterance_id"] + ".wav")
    table.to_csv(folder / "calls.csv", index=False)
    table.assign(label=table["label"].replace({"high": "hoch", "low": "tief"})).to_csv(folder / "rufe.csv", index=False)
    return folder


def words(folder, *files):
    return [f"table={folder / file}" for file in files]


def test_a_corpus_is_named_by_its_file_and_matched_with_the_training(calls):
    (found,) = load_others(words(calls, "calls.csv"), (), "tones", TRAINED)
    one = found.declared
    assert (one.name, one.corpus, one.root) == ("calls", "table", str(calls / "calls.csv"))
    assert one.classes == {"low": "low", "high": "high"}
    assert one.digest == load("table", calls / "calls.csv").digest
    assert found.lines[0] == "2 classes of both corpora (training = calls): low, high"
    assert "8 of 8 utterances" in found.lines[1]


def test_a_test_has_the_outputs_and_rows_of_its_corpus(calls, tmp_path):
    others = load_others(words(calls, "calls.csv", "rufe.csv"), ["rufe.classes=high=hoch,low=tief"], "tones", TRAINED)
    stores = [{"panns_16k": open_store(one.corpus, "panns_16k", tmp_path)} for one in others]
    tests = OtherTests(load("synthetic"), others, stores)
    assert len(tests.heard) == len(tests.all_stores) == 2
    first, second = (one.test(found["panns_16k"], TRAINED) for one, found in zip(others, stores, strict=True))
    assert first.classes == second.classes == ("low", "high")
    assert first.columns == (0, 1)
    assert first.truth.tolist() == [int(name.endswith("high")) for name in others[0].corpus.table["utterance_id"]]
    assert np.array_equal(first.truth, second.truth)
    assert set(first.speakers) == {"s0", "s1"}


@pytest.mark.parametrize(
    ("corpora", "options", "message"),
    [
        (["nowhere=/x"], [], "corpus"),
        (["table"], [], "pass --test-corpus table=PATH"),
        (["table=/nowhere.csv"], [], "does not exist"),
        (["calls.csv", "calls.csv"], [], "the name 'calls' is taken"),
        (["calls.csv"], ["calls"], "is not NAME.KEY=VALUE"),
        (["calls.csv"], ["other.classes=a,b"], "no --test-corpus has the name"),
        (["calls.csv"], ["calls.votes=face"], "option of corpus 'table'"),
        (["calls.csv"], ["calls.classes=high"], "--test-options calls.classes="),
        (["rufe.csv"], [], "such as --test-options rufe.classes=low=hoch,high=tief if 'hoch' means 'low'"),
    ],
)
def test_mistakes_are_found_before_the_start_with_options_that_exist(calls, corpora, options, message):
    given = [words(calls, name)[0] if name.endswith(".csv") and "=" not in name else name for name in corpora]
    with pytest.raises(UserError) as raised:
        load_others(given, options, "tones", TRAINED)
    text = str(raised.value)
    assert message in text
    assert "--corpus-root" not in text
    assert "--exclude " not in text


def test_options_of_a_test_corpus_can_be_typed_and_mean_the_same_elsewhere(calls, tmp_path, monkeypatch):
    for file in calls.iterdir():
        (tmp_path / file.name.replace("rufe", "neue rufe")).symlink_to(file)
    (tmp_path / "classes.json").write_text('{"low": ["tief"], "high": ["hoch"]}')
    monkeypatch.chdir(tmp_path)
    word = f"table={tmp_path / 'neue rufe.csv'}"
    with pytest.raises(UserError) as raised:
        load_others([word], [], "tones", TRAINED)
    advice = re.search(r"such as (.*) if ", str(raised.value))[1]
    assert shlex.split(advice) == ["--test-options", "neue_rufe.classes=low=hoch,high=tief"]
    given = ["neue_rufe.classes=classes.json", "neue_rufe.audio=."]
    (found,) = load_others([word], given, "tones", TRAINED)
    assert found.declared.options == {"classes": "low=tief,high=hoch", "audio": str(tmp_path)}


def test_the_corpus_that_is_trained_on_is_no_other_corpus(calls):
    with pytest.raises(UserError, match="that of the corpus that is trained on"):
        load_others(words(calls, "calls.csv"), (), "calls", TRAINED)


def test_errors_in_the_data_are_left_out_as_the_message_says(calls, tmp_path):
    lines = (calls / "calls.csv").read_text().splitlines()
    broken = tmp_path / "bad.csv"
    broken.write_text("\n".join([*lines, "s9-99-high,s9,high,missing.wav"]) + "\n")
    for file in calls.glob("*.wav"):
        (tmp_path / file.name).symlink_to(file)
    options, console = StudyOptions(storage_path=tmp_path, name="its"), Console(quiet=True)
    extractors = [extractor(Config.from_dotted({"model.width": 0.03}))]
    others = load_others([f"table={broken}"], (), "tones", TRAINED)
    assert any(
        "1 of 9 audio files do not exist" in line and "--test-options bad.audio=" in line for line in others[0].lines
    )
    own = load("synthetic")
    with pytest.raises(UserError) as raised:
        open_tests(own, others, extractors, options, console)
    assert "--test-options bad.exclude=FILE" in str(raised.value)
    (tmp_path / "leave.txt").write_text("s9-99-high\n")
    others = load_others([f"table={broken}"], [f"bad.exclude={tmp_path / 'leave.txt'}"], "tones", TRAINED)
    assert len(open_tests(own, others, extractors, options, console).heard[0]) == 8


def test_recordings_of_the_training_are_no_test_data(calls, tmp_path):
    others = load_others(words(calls, "calls.csv"), (), "tones", TRAINED)
    own = load("table", calls / "rufe.csv")
    stores = [{"panns_16k": open_store(others[0].corpus, "panns_16k", tmp_path)}]
    with pytest.raises(UserError, match=r"8 recordings of test corpus 'calls' are also in corpus 'table'"):
        OtherTests(own, others, stores).check(open_store(own, "panns_16k", tmp_path))


def test_a_resumed_confirmation_finds_moved_files_and_refuses_others(calls, tmp_path):
    (found,) = load_others(words(calls, "calls.csv"), (), "tones", TRAINED)
    moved = dataclasses.replace(found.declared, root="/gone/calls.csv")
    with pytest.raises(UserError, match="does not exist"):
        load_others((), (), "tones", TRAINED, [moved])
    assert load_others(words(calls, "calls.csv"), (), "tones", TRAINED, [moved])[0].declared == found.declared
    with pytest.raises(UserError, match="is not the one that the confirmation began with"):
        load_others((), (), "tones", TRAINED, [dataclasses.replace(found.declared, digest="another")])
    with pytest.raises(UserError, match="test corpus of this confirmation"):
        load_others(words(calls, "rufe.csv"), (), "tones", TRAINED, [found.declared])


def test_a_design_keeps_its_test_corpora_and_one_without_them_its_digest(tmp_path):
    plain = make_design("its", [("elr", "clean", "default")], {1: ["a"]}, [1])
    assert "test_corpora" not in plain.to_json()
    one = OtherCorpus("calls", "table", "/calls.csv", {"classes": "a,b"}, "d", {"x": "a", "y": "b"})
    design = dataclasses.replace(plain, test_corpora=(one,))
    assert design.digest != plain.digest
    design.write(tmp_path)
    assert Design.read(tmp_path) == dataclasses.replace(design, candidates=design.candidates)
    assert json.loads((tmp_path / "design.json").read_text())["test_corpora"][0]["classes"] == {"x": "a", "y": "b"}
