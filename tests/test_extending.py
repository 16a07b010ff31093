"""The code and the commands of docs/extending.md, as a reader would use them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import cohen_kappa_score

from analysis.common.registry import SECTIONS, load_section
from analysis.common.section import write
from ser.corpora import load
from ser.features import front_end
from ser.losses import build_loss
from ser.metrics import classification
from ser.models import build_model
from study.setup.spaces import load_space
from tests.helpers.made_records import make_store

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = re.findall(r"^    (ambivalent .*)$", PAGE, flags=re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the package and the recordings of the page; both can be imported while a test runs."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    for block in BLOCKS:
        if named := re.match(r"# (my_package/\w+\.py)\n", block):
            (tmp_path / named[1]).write_text(block, encoding="utf-8")
    random = np.random.default_rng(0)
    for microphone in ("near", "far"):
        recordings = tmp_path / "my_recordings" / microphone
        recordings.mkdir(parents=True)
        for speaker in ("anna", "ben", "cleo", "dan"):
            for label in ("angry", "happy", "neutral"):
                for number in range(4):
                    samples = random.normal(0, 0.1, 8000)
                    soundfile.write(recordings / f"{speaker}_{label}_{number}.wav", samples, 16000)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def test_the_page_has_code_for_each_kind_of_extension():
    assert len(BLOCKS) == 10
    assert len(COMMANDS) == 7


def test_the_loss_and_its_space(folder):
    sizes = {"total_steps": 10, "num_samples": 1, "num_classes": 2}
    loss = build_loss("my_package.loss.AbsoluteError", {"scale": 2.0}, **sizes)
    assert loss(torch.zeros(1, 2), torch.tensor([0])).loss.item() == pytest.approx(2.0)
    rising = build_loss("my_package.rising.Rising", {}, **sizes)
    half = torch.tensor(rising.schedule(5), dtype=torch.float64)
    assert (
        rising(torch.zeros(1, 2), torch.tensor([0]), half).loss
        == rising(torch.zeros(1, 2), torch.tensor([0]), 5).loss
        == 0.5
    )
    space = load_space("my_package/space.py", {})
    assert "loss.scale" in "\n".join(space.describe())


def test_the_front_end_and_the_model(folder):
    assert front_end("my_package.front_end.TELEPHONE").sample_rate == 8000
    assert build_model("my_package.model.MeanNet", 3, width=0.5)(torch.zeros(2, 10, 64)).shape == (2, 3)


def test_the_corpus_and_its_option(folder):
    (folder / "my_recordings" / "far" / "anna_angry_0.wav").unlink()
    corpora = [
        load("my_package.corpus.load_mine", folder / "my_recordings", options={"microphone": name})
        for name in ("near", "far")
    ]
    assert [len(corpus) for corpus in corpora] == [48, 47]
    assert corpora[0].classes == ("angry", "happy", "neutral")


def test_the_dataset_of_the_hub(folder, monkeypatch):
    datasets = pytest.importorskip("datasets")
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(Path("my_recordings/near").iterdir())]
    names = [cell["path"].split("_") for cell in cells]
    columns = {"audio": cells, "actor": [name[0] for name in names], "major_emotion": [name[1] for name in names]}
    datasets.Dataset.from_dict(columns).save_to_disk("saved")
    monkeypatch.setattr("datasets.load_dataset", lambda name: datasets.load_from_disk("saved"))
    corpus = load("my_package.hub.load_calls")
    assert (corpus.name, len(corpus), corpus.classes) == ("calls", 48, ("angry", "happy", "neutral"))
    assert set(corpus.table["speaker"]) == {"anna", "ben", "cleo", "dan"}


def test_the_metric(monkeypatch):
    (block,) = [block for block in BLOCKS if block.startswith("# at the end of ser/metrics")]
    monkeypatch.setattr(classification, "METRICS", dict(classification.METRICS))
    exec(block, vars(classification))
    monkeypatch.delattr(classification, "_kappa")
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(3), 50), random.integers(3, size=50)
    expected = cohen_kappa_score(labels, probabilities.argmax(axis=1))
    assert classification.scores(probabilities, labels)["kappa"] == pytest.approx(expected)


def test_the_section(folder, monkeypatch):
    monkeypatch.setattr("analysis.common.registry.SECTIONS", dict(SECTIONS))
    exec(BLOCKS[-1], {})
    store = make_store(folder)
    store.search({("cross_entropy", "clean"): [0.5, 0.6], ("elr", "clean"): [0.7]})
    module = load_section("outcomes")
    found = module.section(store.records(), module.Options())
    assert found.sentences == ("3 of 3 trials finished.",)
    assert {path.name for path in write(found, folder / "out")} >= {"outcomes.csv", "outcomes.md"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands(folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in COMMANDS:
        words = [sys.executable, "-m", "ambivalent_ser", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    for name in ("loss", "front_end", "model", "corpus"):
        assert (folder / "results" / name / "state.pt").is_file()
