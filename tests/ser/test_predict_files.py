import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from ser import predict
from ser.checkpoint import open_checkpoint
from ser.config import Config
from ser.corpora import Corpus
from ser.features.store import FeatureStore
from ser.training import save_state, train
from ser.training.task import Task
from ser.utils.command_line import run_command

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tones: Corpus, task_at: Callable[..., Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six of the tones as WAV files, and a network that has learned them."""
    folder = tmp_path_factory.mktemp("predict")
    for name in tones.table["utterance_id"][:6]:
        soundfile.write(folder / f"{name}.wav", tones.synthesize(name), 16000, subtype="FLOAT")
    easy = {"model.width": 0.0625, "model.dropout": 0, "optimizer.lr": 1e-2, "training.batch_size": 4}
    config = Config.from_dotted({**easy, "training.epochs": 12, "training.crop_seconds": 0.5})
    *_, last = train(config, task_at("clean"), seed=0)
    save_state(last.state, folder / "state.pt")
    return folder


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Predicts in this process → exit code, stdout and stderr."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path, checkpoint: str = "state.pt") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["predict", "--checkpoint", str(folder / checkpoint), *map(str, words)])
        code = run_command(predict.main)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_get_the_label_of_their_tone(folder: Path, call: Call, tmp_path: Path) -> None:
    files = sorted(folder.glob("*.wav"))
    code, out, error = call(*files, "--output", tmp_path / "out.csv")
    assert (code, error) == (0, "")
    rows = read(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == list(map(str, files))
    assert [row["predicted"] for row in rows] == [file.stem.split("-")[2] for file in files]
    for row in rows:
        assert float(row["p_high"]) + float(row["p_low"]) == pytest.approx(1, abs=2e-6)
        (line,) = [line for line in out.splitlines() if row["file"] in line]
        (first, name), (second, other) = sorted((float(row[f"p_{name}"]), name) for name in ("high", "low"))[::-1]
        assert name == row["predicted"]
        words = line.replace(":", "").replace(",", "").split()  # a row, or a line with the names of its columns
        values = [word for word in words if word not in ("predicted", "probability", "second")]
        assert values == [row["file"], name, f"{first:.2f}", other, f"{second:.2f}"]


def test_a_file_of_a_dataset_stands_for_all_audio_in_it(folder: Path, call: Call, tmp_path: Path) -> None:
    files = sorted(folder.glob("*.wav"))
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"recording": cells}), dataset := tmp_path / "tones.parquet")
    assert call(dataset, "--output", tmp_path / "out.csv")[0] == 0
    rows = read(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == [f"{dataset}#recording/{row}" for row in range(len(files))]
    assert [row["predicted"] for row in rows] == [file.stem.split("-")[2] for file in files]
    pq.write_table(pa.table({"label": ["low"]}), dataset)
    code, _, error = call(dataset)
    assert (code, "has no audio, but label" in error) == (2, True)


def test_integers_written_as_floating_point_are_warned_of(folder: Path, call: Call, tmp_path: Path) -> None:
    samples, rate = soundfile.read(next(folder.glob("*.wav")))
    soundfile.write(tmp_path / "loud.wav", samples * 32768, rate, subtype="FLOAT")
    quiet, (code, _, err) = call(next(folder.glob("*.wav")))[2], call(tmp_path / "loud.wav")
    assert code == 0
    assert "samples far beyond full scale" in err
    assert "warning" not in quiet


def test_a_file_gets_the_probabilities_of_its_utterance(
    folder: Path, tones: Corpus, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    checkpoint = open_checkpoint(folder / "state.pt")
    names = ["s1-05-low", "s0-00-high", "s0-03-low", "s1-04-high"]
    rows = [tones.table["utterance_id"].tolist().index(name) for name in names]
    expected = checkpoint.predict(store, np.array(rows))
    monkeypatch.setattr(predict, "FILES_AT_ONCE", 3)
    files = [folder / f"{name}.wav" for name in names]
    found = list(predict.predict_files(checkpoint, files))
    assert [path for path, _ in found] == files
    assert np.array([line for _, line in found]) == pytest.approx(expected, abs=1e-6)
    assert checkpoint.classes == tones.classes


def test_all_files_that_cannot_be_used_are_listed_and_the_others_predicted(
    folder: Path, call: Call, tmp_path: Path
) -> None:
    good = folder / "s0-01-low.wav"
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    bad = [tmp_path / name for name in ("text.wav", "empty.wav", "silence.wav", "missing.wav")]
    code, out, error = call(bad[0], good, *bad[1:], "--output", tmp_path / "out.csv")
    assert code == 2
    assert "4 of 5 audio files cannot be used" in error
    assert all(f"  {path}: " in error for path in bad)
    assert [row["file"] for row in read(tmp_path / "out.csv")] == [str(good)]
    assert str(good) in out


def test_nothing_is_written_where_no_file_can_be_used(call: Call, tmp_path: Path) -> None:
    code, out, error = call(tmp_path / "missing.wav", tmp_path, "--output", tmp_path / "out.csv")
    assert (code, out) == (2, "")
    assert "2 of 2 audio files cannot be used" in error
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_reported(folder: Path, call: Call, tmp_path: Path) -> None:
    good = folder / "s0-01-low.wav"
    assert call()[::2] == (
        2,
        "error: no audio files are given; at least one is expected. Name them after the options.\n",
    )
    for words, message in (
        ((good, "--output", tmp_path), "is a folder"),
        ((good, "--output", good / "out.csv"), "is not writable"),
        ((good, "--output", good), "already, with other content"),
        (("strange\udce9.wav",), "are not UTF-8"),
    ):
        code, _, error = call(*words)
        assert (code, message in error) == (2, True), error
    code, _, error = call(good, checkpoint="s0-00-high.wav")
    assert (code, "cannot be read" in error) == (2, True)


def test_neither_command_imports_what_only_studies_need() -> None:
    source = "import sys, ser.evaluate, ser.predict; print({'ray', 'mlflow', 'optuna', 'matplotlib'} & {*sys.modules})"
    root = Path(predict.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=root)
    assert (done.stdout, done.stderr) == ("set()\n", "")
