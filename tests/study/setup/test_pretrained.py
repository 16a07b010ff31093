"""Studies and confirmations that begin with published weights: downloaded first, recorded, and kept to."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from ser.config import Config
from ser.models import build_model
from ser.models.fetch import WEIGHTS
from ser.models.initial_weights import weights_digest
from ser.utils.errors import UserError
from study.options import ConfirmOptions, StudyOptions
from study.search.repeating import repeating_command
from study.search.run_search import search_tags
from study.setup.confirmation import prepare_confirmation
from study.setup.prepare import prepare
from tests.helpers.made_records import make_store
from tests.helpers.published_weights import panns_checkpoint, panns_state
from tests.helpers.tiny_corpora import write_noise_corpus
from tests.helpers.weights_server import serving

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a corpus of 24 utterances by six speakers, and a file of weights in the published format."""
    folder = tmp_path_factory.mktemp("files")
    table = write_noise_corpus(folder)
    weights = folder / WEIGHTS["cnn6"].file.name
    torch.save(panns_checkpoint(panns_state(build_model("cnn6", 2))), weights)
    return table, weights


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the URI of a store that all tests share."""
    return make_store(tmp_path_factory.mktemp("store")).uri


@pytest.fixture
def requests(files, monkeypatch):
    with serving("cnn6", files[1], monkeypatch) as found:
        yield found


@pytest.fixture
def options(files, store, tmp_path):
    """Return the options of a study with the published weights of CNN6."""
    return StudyOptions(
        space=("cross_entropy",), corpus="table", corpus_root=files[0], noise=("clean",), name="s", experiment="e",
        pretrained="cnn6", settings=("training.crop_seconds=0.5",), storage_path=tmp_path / "out",
        tracking_uri=store,
    )  # fmt: skip


def begin(options, console=QUIET):
    """Prepare a study and write its record, as if it had begun."""
    prepared = prepare(options, console)
    prepared.options.write(prepared.data.digest, spaces=prepared.spaces, audio_digest=prepared.data.audio_digest)
    prepared.lock.release()
    return prepared


def test_the_weights_are_downloaded_recorded_and_all_trials_begin_with_them(options, requests, files, capsys):
    prepared = begin(options, Console(width=300))
    place = options.storage_path / "weights" / files[1].name
    assert place.read_bytes() == files[1].read_bytes()
    assert prepared.models == "cnn6 × 1, batch 32"
    (config,) = {json.dumps(one.model.__dict__) for one in prepared.searches[0].space.configurations(prepared.options.defaults)}  # fmt: skip # noqa: E501
    model = Config().model.__dict__
    own = {"name": "cnn6", "front_end": "panns_32k", "pretrained": str(place)}
    assert json.loads(config) == {**model, **own}
    printed = capsys.readouterr().out
    assert printed.index("CC BY 4.0") < printed.index("weights   cnn6; defaults with it, which --set overrides: ")
    assert "model.front_end=panns_32k optimizer.base_lr_factor=0.1" in printed
    record = json.loads((prepared.folder / "study.json").read_text())
    digest = weights_digest(files[1])
    assert (record["pretrained"], record["model"], record["weights_digest"]) == ("cnn6", "cnn6", digest)
    tags = search_tags(prepared, prepared.searches[0])
    assert (tags["weights"], tags["weights.digest"]) == ("cnn6", digest)
    assert "--model cnn6 --pretrained cnn6" in repeating_command("study/run.py", record, [])
    prepare(replace(options, name="other"), QUIET).lock.release()
    assert len(requests) == 1


def test_the_synthetic_corpus_is_not_scaled_down_with_published_weights():
    model = StudyOptions(pretrained="cnn14_16k").shared.model
    assert (model.name, model.width, model.dropout) == ("cnn14", 1, 1)
    assert StudyOptions().shared.model.width == 0.125


def test_a_setting_overrides_a_default_of_the_weights():
    options = StudyOptions(pretrained="cnn6", settings=("optimizer.base_lr_factor=1", "model.dropout=0"))
    assert (options.shared.optimizer.base_lr_factor, options.shared.model.dropout) == (1, 0)


def test_a_linear_probe_takes_its_base_from_the_weights():
    model = StudyOptions(pretrained="cnn6", model="embedding_head").shared.model
    assert (model.name, model.base, model.features) == ("embedding_head", "cnn6", "panns_32k")


def test_a_file_of_ones_own_is_recorded_with_its_content(options, files, tmp_path):
    own = tmp_path / "own.pth"
    shutil.copy(files[1], own)
    options = replace(options, pretrained=str(own), model="cnn6", settings=("model.front_end=panns_32k",))
    prepared = begin(options)
    assert prepared.options.shared.model.pretrained == str(own)
    assert search_tags(prepared, prepared.searches[0])["weights"] == str(own)
    begun = replace(options, resume=True)
    prepare(begun, QUIET).lock.release()
    torch.save(panns_checkpoint(panns_state(build_model("cnn6", 2), "panns_32k") | {"bn0.bias": torch.ones(64)}), own)
    with pytest.raises(UserError, match=r"own\.pth' are not those with which study 's' began: the file has another"):
        prepare(begun, QUIET)


def test_a_file_that_a_setting_names_is_kept_to_as_well(options, files, tmp_path):
    own = tmp_path / "own.pth"
    shutil.copy(files[1], own)
    settings = (f"model.pretrained={own}", "model.front_end=panns_32k")
    options = replace(options, pretrained=None, model="cnn6", settings=settings)
    begin(options)
    torch.save(panns_checkpoint(panns_state(build_model("cnn6", 2), "panns_32k") | {"bn0.bias": torch.ones(64)}), own)
    with pytest.raises(UserError, match="are not those with which study 's' began"):
        prepare(replace(options, resume=True), QUIET)


def test_a_resumed_study_downloads_the_weights_again_where_its_folder_has_lost_them(options, requests, files):
    begin(options)
    shutil.rmtree(options.storage_path / "weights")
    resumed = prepare(StudyOptions(name="s", storage_path=options.storage_path, resume=True), QUIET)
    resumed.lock.release()
    assert (options.storage_path / "weights" / files[1].name).exists()
    assert len(requests) == 2
    with pytest.raises(
        UserError, match="study 's' resumes with its own options, and these differ from them: --pretrained"
    ):
        prepare(replace(options, pretrained="cnn10", resume=True), QUIET)


def test_a_plan_downloads_nothing_and_says_what_a_study_would(options, requests, capsys):
    prepared = prepare(replace(options, plan=True), Console(width=300))
    prepared.release()
    printed = capsys.readouterr().out
    size = f"{WEIGHTS['cnn6'].file.size / 1e6:.1f} MB"
    assert f"begins with a download, and this plan does without: {WEIGHTS['cnn6'].file.name}, {size}, from" in printed
    assert prepared.models == "cnn6 × 1, batch 32"
    assert requests == []
    assert not (options.storage_path / "weights").exists()
    with pytest.raises(UserError, match="--plan: a linear probe trains on embeddings, which take the weights"):
        prepare(replace(options, plan=True, model="embedding_head"), QUIET)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "cnn14"}, "weights of cnn6 at width 1 on front end panns_32k, but model.name is cnn14"),
        ({"width": 0.5}, "but model.width is 0.5"),
        ({"model": "hf:facebook/wav2vec2-base"}, "a speech encoder, whose weights come from its own folder or the hub"),
        ({"settings": ("model.pretrained=w.pth",)}, "model.pretrained is set both by its own option and by --set"),
        ({"settings": ("model.pretrained=w.pth",), "plan": True}, "set both by its own option and by --set"),
        ({"model": "cnn6", "settings": ("model.name=cnn14",)}, "--model is cnn6, but --set has model.name=cnn14"),
        ({"settings": ("model.front_end=panns_16k",)}, "but model.front_end is panns_16k"),
        ({"pretrained": "cnn7"}, "Did you mean 'cnn6'"),
    ],
)
def test_a_contradiction_is_found_before_anything_is_downloaded(options, requests, changes, message):
    with pytest.raises(UserError) as caught:
        prepare(replace(options, **changes), QUIET)
    assert message in str(caught.value)
    assert requests == []
    assert not options.storage_path.exists()


def test_a_corpus_that_cannot_be_read_is_found_before_the_download(options, requests, tmp_path):
    with pytest.raises(UserError, match=r"none\.csv"):
        prepare(replace(options, corpus_root=tmp_path / "none.csv"), QUIET)
    assert requests == []


def test_a_confirmation_of_published_defaults_begins_with_the_weights(options, requests, files, tmp_path):
    asked = ConfirmOptions(**{name: getattr(options, name) for name in (
        "space", "corpus", "corpus_root", "noise", "name", "experiment", "pretrained", "settings", "storage_path",
        "tracking_uri",
    )})  # fmt: skip
    prepared = prepare_confirmation(asked, QUIET).prepared
    prepared.lock.release()
    place = str(options.storage_path / "weights" / files[1].name)
    assert {one.configuration["model.pretrained"] for one in prepared.searches[0].planned} == {place}
    assert search_tags(prepared, prepared.searches[0])["weights"] == "cnn6"
    prepared.design.write(prepared.folder)
    prepared.options.write(prepared.data.digest, audio_digest=prepared.data.audio_digest)
    moved = options.storage_path.rename(tmp_path / "moved")
    resumed = prepare_confirmation(ConfirmOptions(name="s", storage_path=moved, resume=True), QUIET).prepared
    resumed.lock.release()
    (found,) = {one.configuration["model.pretrained"] for one in resumed.searches[0].planned}
    assert found == str(moved / "weights" / files[1].name)
    with pytest.raises(UserError, match="--pretrained: a confirmation of a search has the search's own options"):
        ConfirmOptions(pretrained="cnn6")
