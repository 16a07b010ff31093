import csv
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from ser import evaluate, train
from ser.corpora import Corpus
from ser.training import load_state, save_state
from ser.utils.command_line import run_command

SETTINGS = ("model.width=0.03", "training.epochs=2", "training.batch_size=6", "training.crop_seconds=0.5")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tones as WAV files and a table, with genders and votes, and a run on them at symmetric:0.25."""
    folder = tmp_path_factory.mktemp("evaluate")
    rows = tones.table[["utterance_id", "speaker", "label"]]
    for name in rows["utterance_id"]:
        soundfile.write(folder / f"{name}.wav", tones.synthesize(name), 16000)
    votes = pd.DataFrame(tones.table["votes"].tolist(), columns=["votes_high", "votes_low"])
    gender = ["female" if int(name[4]) % 2 else "male" for name in rows["utterance_id"]]
    rows = pd.concat([rows.assign(path=rows["utterance_id"] + ".wav", gender=gender), votes], axis=1)
    rows.to_csv(folder / "table.csv", index=False)
    other = rows.assign(label=rows["label"].replace({"low": "deep"}))
    other.rename(columns={"votes_low": "votes_deep"}).to_csv(folder / "other.csv", index=False)
    third = rows.assign(votes_shrill=0)
    third.loc[0, "label"] = "shrill"
    third.to_csv(folder / "three.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        where = ["--output", str(folder / "run"), "--noise", "symmetric:0.25", "--seed", "3"]
        patch.setattr(sys, "argv", ["train", *corpus_of(folder), *where, "--set", *SETTINGS])
        assert run_command(train.main) == 0
    return folder


def corpus_of(folder: Path, table: str = "table.csv") -> list[str]:
    return ["--corpus", "table", "--corpus-root", str(folder / table), "--features", str(folder / "features")]


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Evaluates in this process → exit code, stdout and stderr."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(output: Path, *more: str, table: str = "table.csv", checkpoint: Path | None = None) -> tuple[int, str, str]:
        state = checkpoint or folder / "run" / "state.pt"
        words = ["--checkpoint", str(state), *corpus_of(folder, table), "--output", str(output), *more]
        monkeypatch.setattr(sys, "argv", ["evaluate", *words])
        code = run_command(evaluate.main)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_validation_scores_are_those_of_the_last_epoch(folder: Path, call: Call, tmp_path: Path) -> None:
    code, out, error = call(tmp_path)
    assert (code, error) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("confusion-female.csv", "confusion-male.csv", "confusion.csv", "confusion.png"),
        *("predictions.csv", "report.json", "report.txt"),
    ]
    found = report(tmp_path)
    last = json.loads((folder / "run" / "history.jsonl").read_text().splitlines()[-1])
    for name, value in found["true"]["scores"].items():
        assert value == pytest.approx(last[f"val/{name}"], abs=1e-9), name
    assert found["noisy"]["scores"]["uar"] == last["val_noisy/uar"]
    assert found["annotators"]["soft_ce"] == pytest.approx(last["val/soft_ce"])
    assert found["annotators"]["jsd"] == pytest.approx(last["val/jsd"])
    assert found["annotators"]["least_soft_ce"] < found["annotators"]["soft_ce"]
    assert (found["epoch"], found["training_seed"], found["noise"], found["subset"]) == (
        *(2, 3),
        *("symmetric:0.25", "validation"),
    )
    assert out.startswith((tmp_path / "report.txt").read_text())
    for heading in ("Against true labels (4 of 4", "Against noisy labels (4", "Against the annotators' distribution"):
        assert heading in out


def test_the_tables_agree_with_the_predictions(call: Call, tmp_path: Path) -> None:
    assert call(tmp_path)[0] == 0
    rows, found = read(tmp_path / "predictions.csv"), report(tmp_path)
    assert list(rows[0]) == ["utterance_id", "speaker", "gender", "label", "predicted", "p_high", "p_low"]
    assert {row["speaker"] for row in rows} == {"s4"}  # the fold before the last
    assert all(row["label"] == row["utterance_id"].split("-")[2] for row in rows)  # the true label, not the noisy one
    for row in rows:
        assert float(row["p_high"]) + float(row["p_low"]) == pytest.approx(1, abs=2e-6)
        assert row["predicted"] == max(("high", "low"), key=lambda name: float(row[f"p_{name}"]))
    for file, genders in (("", {"female", "male"}), ("-female", {"female"}), ("-male", {"male"})):
        for line in read(tmp_path / f"confusion{file}.csv"):
            for predicted in ("high", "low"):
                pair = (line["label"], predicted)
                hits = [r for r in rows if (r["label"], r["predicted"]) == pair and r["gender"] in genders]
                assert int(line[predicted]) == len(hits)
    by = found["true"]["uar_by"]
    assert list(by) == ["agreement", "gender", "speaker"]
    assert by["speaker"]["s4"]["uar"] == found["true"]["scores"]["uar"]
    assert sum(score["utterances"] for score in by["agreement"].values()) == 4
    assert set(by["agreement"]) == {"unanimous", "majority"}


@pytest.mark.parametrize("option", ["--subset", "--part"])  # --part is the spelling of version 0.1
def test_the_test_subset_is_scored_on_request(call: Call, tmp_path: Path, option: str) -> None:
    assert call(tmp_path, option, "test")[0] == 0
    assert {row["speaker"] for row in read(tmp_path / "predictions.csv")} == {"s5"}
    found = report(tmp_path)
    assert (found["subset"], found["true"]["utterances"], found["noisy"]) == ("test", 4, None)  # test labels are clean


def test_evaluating_again_gives_the_same_files(call: Call, tmp_path: Path) -> None:
    assert call(tmp_path)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert call(tmp_path)[0] == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    code, _, error = call(tmp_path, "--subset", "test")
    assert code == 2
    assert "already, with other content" in error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("more", "table", "message"),
    [
        (["--fold", "5"], "table.csv", "trained on other rows or labels"),
        (["--validation", "random"], "table.csv", "trained on other rows or labels"),
        (["--fold", "9"], "table.csv", "folds 1 to 6"),
        ([], "other.csv", "has 2 classes (high, low), and corpus 'table' has 2 (high, deep)"),
        ([], "nowhere.csv", "does not exist"),
        ([], "three.csv", "has 2 classes (high, low), and corpus 'table' has 3 (high, low, shrill)"),
        (["--exclude", "nowhere.txt"], "table.csv", "cannot be read"),
        (["--corpus-options", "votes=face"], "table.csv", "unknown option of corpus 'table'"),
    ],
)
def test_another_corpus_or_fold_than_the_trainings_is_refused(
    call: Call, tmp_path: Path, more: list[str], table: str, message: str
) -> None:
    code, _, error = call(tmp_path / "output", *more, table=table)
    assert code == 2
    assert message in error
    assert not (tmp_path / "output").exists()


def test_a_corpus_whose_labels_changed_is_refused(folder: Path, call: Call, tmp_path: Path) -> None:
    excluded = tmp_path / "bad.txt"
    excluded.write_text("s0-00-high\n")
    code, _, error = call(tmp_path / "output", "--exclude", str(excluded))
    assert code == 2
    assert "with other rows, labels or votes" in error
    assert "--exclude" in error


def broken(state: dict[str, Any], how: str) -> Any:
    if how == "weights":
        return state["model"]
    if how == "tensor":
        return torch.zeros(3)
    if how == "head":
        return {**state, "manifest": {**state["manifest"], "classes": ["a", "b", "c"]}}
    if how == "key":
        return {**state, "config": {**state["config"], "model.nmae": "cnn14"}}
    if how == "level":
        return {**state, "manifest": {key: value for key, value in state["manifest"].items() if key != "level"}}
    return {**state, "manifest": None}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("weights", "not a training state (it lacks fingerprint, epoch"),
        ("tensor", "it holds a Tensor"),
        ("head", "does not fit its own configuration"),
        ("key", "unknown configuration key 'model.nmae'"),
        ("level", "does not fit its own configuration: 'level'"),
        ("manifest", "does not fit its own configuration"),
    ],
)
def test_a_file_that_is_no_whole_state_is_refused(
    folder: Path, call: Call, tmp_path: Path, how: str, message: str
) -> None:
    save_state(broken(load_state(folder / "run" / "state.pt"), how), tmp_path / "broken.pt")
    code, _, error = call(tmp_path / "output", checkpoint=tmp_path / "broken.pt")
    assert code == 2
    assert message in error


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no archive"])
def test_a_file_that_is_missing_or_damaged_is_reported(call: Call, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "state.pt").write_bytes(content)
    code, _, error = call(tmp_path / "output", checkpoint=tmp_path / "state.pt")
    assert code == 2
    assert "cannot be read" in error


def test_weights_that_are_not_finite_are_reported(folder: Path, call: Call, tmp_path: Path) -> None:
    state = load_state(folder / "run" / "state.pt")
    state["model"]["head.bias"].fill_(float("nan"))
    save_state(state, tmp_path / "state.pt")
    code, _, error = call(tmp_path / "output", checkpoint=tmp_path / "state.pt")
    assert code == 2
    assert "training diverged" in error


def test_an_unknown_truth_is_said_and_left_out(tones: Corpus) -> None:
    rows, unknown = np.array([0, 1, 2]), np.array([-1, -1, -1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = evaluate.score_subset(tones, rows, probabilities, unknown, tones.labels[rows])
    assert found["true"] is None
    assert found["noisy"]["scores"]["uar"] == 1.0
    half = evaluate.score_subset(tones, rows, probabilities, np.array([0, -1, 0]), tones.labels[rows])
    assert half["true"]["utterances"] == 2
    assert half["true"]["recall"] == {"high": 1.0, "low": None}


def test_another_corpus_is_scored_on_the_classes_of_both(folder: Path, call: Call, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "three.csv").rename(columns={"votes_high": "votes_High"})
    table["label"] = table["label"].replace({"high": "High"})
    table.to_csv(folder / "across.csv", index=False)
    code, out, error = call(tmp_path, "--subset", "all", table="across.csv")
    assert code == 0
    assert re.fullmatch(r"features +panns_16k of 23 utterances, 1 min of audio, about \d+ kB in \S+\n", error)
    found, rows = report(tmp_path), read(tmp_path / "predictions.csv")
    assert (found["subset"], found["class_mapping"], found["chance"]) == ("all", {"high": "High", "low": "low"}, 0.5)
    assert (found["left_out"], found["utterances"], len(rows)) == ({"shrill": 1}, len(table) - 1, len(table) - 1)
    recalls = []
    for label in ("high", "low"):
        mine = [row for row in rows if row["label"] == label]
        assert all(row["predicted"] == max(("high", "low"), key=lambda name: float(row[f"p_{name}"])) for row in mine)
        recalls.append(np.mean([row["predicted"] == label for row in mine]))
    assert found["true"]["scores"]["uar"] == pytest.approx(np.mean(recalls))
    interval = found["interval"]
    assert interval["low"] <= found["true"]["scores"]["uar"] <= interval["high"]
    assert interval["about"] == "over 6 speakers of table; one training"
    assert "make sure that no speaker of the training is scored" in found["warning"]
    assert "2 classes of both corpora (training = table): high = High, low" in out
    assert "23 of 24 utterances of table, all of them test data; left out: 1 shrill" in out


@pytest.mark.parametrize(
    ("table", "more", "message"),
    [
        ("table.csv", [], "was trained on this corpus, so not all of its utterances are test data"),
        (
            "other.csv",
            [],
            "share 1 class; two are needed. Classes of the training: high, low. Classes of corpus 'table'",
        ),
        ("other.csv", [], "--classes, such as --classes high,low=deep if 'deep' means 'low'."),
    ],
)
def test_what_cannot_be_scored_across_is_refused(
    call: Call, tmp_path: Path, table: str, more: list[str], message: str
) -> None:
    code, _, error = call(tmp_path / "output", "--subset", "all", *more, table=table)
    assert code == 2
    assert message in " ".join(error.split())
    assert not (tmp_path / "output").exists()


def test_the_advice_on_classes_is_right_when_followed(folder: Path, call: Call, tmp_path: Path) -> None:
    pd.read_csv(folder / "other.csv").iloc[1:].to_csv(folder / "fewer.csv", index=False)
    code, _, error = call(tmp_path, "--subset", "all", table="fewer.csv")
    advice = error.split("such as ")[1].split(" if ")[0].split()
    assert (code, advice) == (2, ["--classes", "high,low=deep"])
    assert call(tmp_path, "--subset", "all", *advice, table="fewer.csv")[0] == 0
    assert report(tmp_path)["class_mapping"] == {"high": "high", "low": "low"}


def test_the_own_corpus_under_other_class_names_is_no_other_corpus(call: Call, tmp_path: Path) -> None:
    code, _, error = call(tmp_path, "--subset", "all", "--classes", "high,low=deep", table="other.csv")
    assert code == 2
    assert "was trained on this corpus" in error


def test_a_corpus_of_another_name_is_scored_whole(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = evaluate.load
    monkeypatch.setattr(evaluate, "load", lambda *words: dataclasses.replace(load(*words), name="calls"))
    code, out, _ = call(tmp_path, "--subset", "test", table="three.csv")  # which does not apply, as is printed
    assert code == 0
    assert "tested on another corpus, calls" in out
    assert "all of them test data" in out
