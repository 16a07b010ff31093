"""What a plan and the end of a study say of the disk, on a small corpus of noise."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from ser.features.store import FeatureStore
from study.backend.trial_resources import TrialResources
from study.commands import plan
from study.commands.plan import costs, disk_warning, fine_tuning_warning, level_lines, measure, show_plan
from study.options import StudyOptions
from study.setup.prepare import prepare
from study.setup.prepared_study import PreparedStudy
from tests.helpers.tiny_corpora import write_noise_corpus
from tests.helpers.tiny_encoders import tiny_encoder

SETTINGS = ("training.crop_seconds=0.5", "training.precision=float32")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Make 24 utterances of a second by six speakers."""
    folder = tmp_path_factory.mktemp("corpus")
    return write_noise_corpus(folder, samples=16000)


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    options = StudyOptions(
        space=("cross_entropy",), corpus="table", corpus_root=corpus, noise=("clean",), name="planned", experiment="e",
        epochs=2, trials=3, width=0.03, batch_size=8, settings=SETTINGS, storage_path=folder / "out",
        tracking_uri=f"sqlite:///{folder}/m.db", keep="all",
    )  # fmt: skip
    return prepare(options, Console())


def test_a_plan_counts_feature_stores_and_free_space(prepared, capsys, monkeypatch):
    monkeypatch.setattr(PreparedStudy, "release", lambda _: None)
    assert show_plan(prepared, Console(width=200)) == 0
    printed = capsys.readouterr().out
    # 24 utterances of 101 frames of 64 bands, four bytes each: 620,544 bytes; then offsets and digests.
    assert f"623 kB of features, built now, and kept: {prepared.data.store.path}" in printed
    assert "warning" not in printed
    opened = {"panns_16k": FeatureStore.open(prepared.data.store.path)}
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    show_plan(replace(prepared, data=replace(prepared.data, stores=opened)), Console(width=200))
    printed = capsys.readouterr().out
    assert "623 kB of features, there already" in printed
    assert "warning: the checkpoints do not fit: 100 kB are free there" in printed


def test_a_study_that_cannot_fit_says_so_before_it_starts(prepared, monkeypatch):
    assert disk_warning(prepared) == []
    weights = measure(prepared, prepared.searches[0], TrialResources(1.0, 0.0, 1)).weights
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * weights))
    assert disk_warning(prepared) == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * weights - 1))
    assert "the trained networks take" in disk_warning(prepared)[0]
    trained = prepared.folder / "trained"  # of a trial that has ended
    trained.write_bytes(b"0" * int(weights))
    assert disk_warning(prepared) == []
    trained.unlink()
    fewer = replace(prepared, options=replace(prepared.options, keep="best"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=weights))
    assert disk_warning(fewer) == []
    assert "keep fewer with --keep" in disk_warning(prepared)[0]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    assert disk_warning(fewer)
    assert disk_warning(replace(prepared, options=replace(prepared.options, keep="none"))) == []


@pytest.mark.parametrize(("keep", "kept"), [("all", 3), ("best", 1), ("none", 0)])
def test_a_plan_says_the_disk_of_the_networks_that_are_kept(prepared, capsys, monkeypatch, keep, kept):
    """Let a network take 1 MB, its optimizer 2 MB, and two trials run at a time."""
    monkeypatch.setattr(PreparedStudy, "release", lambda _: None)
    monkeypatch.setattr(plan, "measure", lambda *_: plan.TrialCost(1.0, 1e6, 3e6))
    monkeypatch.setattr(plan, "trial_resources", lambda *_: TrialResources(1.0, 0.0, 2))
    show_plan(replace(prepared, options=replace(prepared.options, keep=keep)), Console(width=200))
    most = kept + 2 * (2 * 3 + (keep != "none"))
    printed = capsys.readouterr().out
    assert f"{f'{kept} MB' if kept else '0 kB'} of checkpoints" in printed
    assert f"(--keep {keep}), up to {most} MB while trials run" in printed


def test_the_end_says_what_a_study_takes(prepared):
    (prepared.folder / "state").write_bytes(b"0" * 3_000_000)
    client = prepared.records.client
    run = client.create_run(prepared.records.experiment, tags={"study": "planned"})
    client.log_text(run.info.run_id, "0" * 2_000_000, "table.txt")
    client.log_text(client.create_run(prepared.records.experiment).info.run_id, "0", "of another study.txt")
    (line,) = costs(prepared)
    storage = prepared.options.storage_path
    assert line == f"3 MB in {storage}/studies/planned, 2 MB of artifacts, 623 kB of features in {storage}/features"


def test_levels_far_from_the_others_are_said_before_a_study_trains(prepared):
    assert level_lines(prepared) == []
    levels = prepared.data.store.levels.copy()
    levels[5] += (90, 32767)  # 16-bit integers written as floating point
    louder = replace(prepared.data.store, levels=levels)
    stores = dict.fromkeys(prepared.data.stores, louder)
    apart, beyond = level_lines(replace(prepared, data=replace(prepared.data, stores=stores)))
    name = prepared.data.corpus.table["utterance_id"][5]
    assert (
        apart
        == f"warning: 1 of 24 utterances lies more than 40 dB from the median level (−20 dBFS): {name} (+70 dBFS)."
    )
    assert beyond.startswith(
        f"warning: 1 of 24 utterances has samples far beyond full scale (±1): {name} (32,767). If "
    )


@pytest.fixture(scope="module")
def on_encoder(corpus, tmp_path_factory):
    """Return a function that prepares a study on a tiny speech encoder with settings."""
    folder = tmp_path_factory.mktemp("encoder")
    encoder = tiny_encoder(folder / "tiny")

    def prepared(name, *settings):
        options = StudyOptions(
            space=("cross_entropy",), corpus="table", corpus_root=corpus, noise=("clean",), name=name, experiment="e",
            epochs=2, trials=3, model=f"hf:{encoder}", batch_size=8, settings=(*SETTINGS, *settings),
            storage_path=folder / "out", tracking_uri=f"sqlite:///{folder}/m.db",
        )  # fmt: skip
        return prepare(options, Console())

    return prepared


def test_fine_tuning_without_a_gpu_is_warned_of_with_its_time_and_freezing_is_not(on_encoder, monkeypatch):
    cpus, gpu = TrialResources(1.0, 0.0, 1), TrialResources(1.0, 1.0, 1)
    frozen, tuned = on_encoder("frozen"), on_encoder("tuned", "model.freeze=none")
    assert fine_tuning_warning(frozen, cpus) == fine_tuning_warning(tuned, gpu) == []
    (line,) = fine_tuning_warning(tuned, cpus)
    assert re.search(r"a trial that fine-tunes hf:\S+/tiny takes about \d+ s\. .*without model\.freeze", line)
    cost = measure(tuned, tuned.searches[0], cpus)
    assert 0 < cost.seconds < 60
    assert cost.state == 3 * cost.weights
    # A frozen encoder is no part of what its trials keep: a head of 24 channels for two classes.
    kept = measure(frozen, frozen.searches[0], cpus).weights
    assert kept < 1000 < cost.weights
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * kept))
    assert disk_warning(frozen) == []
    assert disk_warning(tuned)
