"""Where a study and a confirmation compute embeddings, and which stores they read when they are resumed elsewhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from rich.console import Console

from ser.models import build_model
from study.options import ConfirmOptions, StudyOptions
from study.setup.confirmation import prepare_confirmation
from study.setup.prepare import embeddings_device, prepare
from study.setup.prepared_study import PreparedStudy
from tests.helpers.pretended_gpu import pretend_gpu
from tests.helpers.tiny_corpora import write_noise_corpus

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> StudyOptions:
    """Return the options of a study of linear probes on a corpus of 24 utterances."""
    folder = tmp_path_factory.mktemp("study")
    table = write_noise_corpus(folder)
    torch.manual_seed(0)
    torch.save(build_model("cnn6", 2, 1 / 32).state_dict(), folder / "base.pt")
    return StudyOptions(
        space=("cross_entropy",), corpus="table", corpus_root=table, noise=("clean",), name="s",
        experiment="e", model="embedding_head", width=1 / 32, storage_path=folder,
        settings=("model.base=cnn6", f"model.pretrained={folder / 'base.pt'}"),
        tracking_uri=f"sqlite:///{folder}/none.db", plan=True,  # without records
    )  # fmt: skip


def begin(prepared: PreparedStudy) -> list[str]:
    """Write a study's record, as if it had begun, and return the names of its stores."""
    stores = [store.path.name for store in prepared.data.all_stores]
    assert [search.task.store.name for search in prepared.searches] == stores[:1]
    prepared.options.write(prepared.data.digest, stores, prepared.spaces, prepared.data.audio_digest)
    prepared.lock.release()
    return stores


def on_gpu(stores: list[str]) -> list[bool]:
    return ["-cuda-v" in name for name in stores]


def test_a_study_computes_embeddings_on_the_drivers_gpu_unless_trials_get_none(
    shared: StudyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embeddings_device(shared) == "cpu"
    pretend_gpu(monkeypatch)
    asked = {None: "cuda", 0.5: "cuda", 0.0: "cpu"}
    assert {gpus: embeddings_device(replace(shared, gpus_per_trial=gpus)) for gpus in asked} == asked


def test_a_study_keeps_its_embeddings_wherever_it_is_resumed(shared: StudyOptions, tmp_path: Path) -> None:
    options = replace(shared, storage_path=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        pretend_gpu(patch)
        begun = prepare(options, QUIET)
        stores = begin(begun)
        assert on_gpu(stores) == [True]
        others = prepare(replace(options, name="others", gpus_per_trial=0.0), QUIET)
        assert on_gpu(begin(others)) == [False]
    assert others.protocol != begun.protocol  # their trials are not comparable
    resumed = prepare(
        StudyOptions(name="s", storage_path=tmp_path, resume=True, tracking_uri=shared.tracking_uri, plan=True), QUIET
    )
    assert (begin(resumed), resumed.protocol) == (stores, begun.protocol)
    with pytest.MonkeyPatch.context() as patch:
        pretend_gpu(patch)
        again = replace(resumed.options, name="others", gpus_per_trial=None)
        assert embeddings_device(again) == "cpu"


def test_a_study_of_networks_is_comparable_on_every_device(shared: StudyOptions, tmp_path: Path) -> None:
    network = replace(shared, model="cnn6", settings=(), storage_path=tmp_path)
    found = []
    for name in ("first", "second"):
        with pytest.MonkeyPatch.context() as patch:
            if name == "second":
                pretend_gpu(patch)
            prepared = prepare(replace(network, name=name), QUIET)
        assert on_gpu(begin(prepared)) == [False]
        found.append(prepared.protocol)
    assert found[0] == found[1]


def test_a_confirmation_and_its_other_corpora_read_embeddings_of_one_device(
    shared: StudyOptions, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.1, 8000), 16000)
    rows = [{"path": f"{number}.wav", "speaker": "z", "label": "xy"[number % 2]} for number in range(4)]
    pd.DataFrame(rows).to_csv(tmp_path / "other.csv", index=False)
    given = {name: getattr(shared, name) for name in ("space", "corpus", "corpus_root", "noise", "experiment", "model", "width", "settings", "tracking_uri", "plan")}  # fmt: skip # noqa: E501
    asked = ConfirmOptions(**given, name="c", storage_path=tmp_path, test_corpus=(f"table={tmp_path / 'other.csv'}",))
    with pytest.MonkeyPatch.context() as patch:
        pretend_gpu(patch)
        prepared = prepare_confirmation(asked, QUIET).prepared
        stores = begin(prepared)
    assert on_gpu(stores) == [True, True]
    assert prepared.design is not None
    prepared.design.write(prepared.folder)
    again = ConfirmOptions(name="c", storage_path=tmp_path, resume=True, tracking_uri=shared.tracking_uri, plan=True)
    assert begin(prepare_confirmation(again, QUIET).prepared) == stores
