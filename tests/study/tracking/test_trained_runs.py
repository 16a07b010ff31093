"""Tests of what is said of a run whose network was not kept, or was lost."""

import json
import shlex
from dataclasses import replace

import pytest

from ser.config import Config, corpus_defaults, model_defaults, parse_value
from ser.utils.errors import UserError
from study.options import StudyOptions
from study.schema import FAILED, FINISHED, SEARCH, Tag
from study.setup.spaces import load_space, space_names
from study.tracking.trained_runs import TrialFolder, newest_of, training_command
from study.trial.checkpoints import save_checkpoint
from study.trial.ended import Ended

CONFIG = Config.from_dotted({"loss.name": "elr", "model.width": 0.25, "optimizer.lr": 3e-4})


@pytest.fixture
def made(tmp_path):
    def make(keep="best", status=FINISHED, model="cnn14", stage=SEARCH):
        study = StudyOptions(name="s", corpus="ravdess", keep=keep, seed=4, noise=("clean", "symmetric:0.3"))
        params = {key: str(value) for key, value in CONFIG.to_dotted().items()} | {"model.name": model}
        tags = {Tag.STATUS: status, Tag.NOISE: "symmetric:0.3", Tag.STAGE: stage}
        return TrialFolder(tmp_path, study, tmp_path / "features", 5, {k: v for k, v in tags.items() if v}, params)

    return make


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "the network of run 'r' is not in '.*': it was not kept, or was removed; study 's' has --keep best"),
        ({"keep": "none"}, r"study 's' has --keep none\. Choose another run, or train this one again"),
        ({"keep": "all"}, r"or was removed\. Choose another run, or train this one again:\n.* --corpus ravdess"),
        ({"stage": "confirm"}, "Repeat the confirmation under another --name, with --keep all"),
        ({"model": "random_forest"}, "a classical model, which has no network"),
        ({"status": ""}, "has no checkpoint in"),
        ({"status": FAILED}, "has no checkpoint in '.*'. Choose another run, or resume the study"),
    ],
)
def test_a_run_without_a_network_says_why(made, more, said):
    with pytest.raises(UserError, match=said):
        newest_of("r", made(**more))


def test_the_state_of_an_earlier_epoch_is_not_taken_for_the_network_of_a_trial_that_has_ended(made, tmp_path):
    save_checkpoint({"epoch": 2, "model": {}}, tmp_path)
    assert newest_of("r", made()).checkpoint.name == "epoch_0002-0.pt"
    Ended(3, [], keeps=True).write(tmp_path)
    with pytest.raises(UserError, match="is not whole: it is being written now, or its process was killed"):
        newest_of("r", made())
    Ended(3, [], keeps=False).write(tmp_path)
    with pytest.raises(UserError, match="was not kept"):
        newest_of("r", made())
    save_checkpoint({"epoch": 3, "model": {}}, tmp_path)
    assert newest_of("r", made()).checkpoint.name == "epoch_0003-0.pt"


def test_a_damaged_network_of_a_trial_that_has_ended_is_trained_again_by_the_command(made, tmp_path):
    save_checkpoint({"epoch": 3, "model": {}}, tmp_path)
    (tmp_path / "epoch_0003-0.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"its file is damaged\. Choose another run, .*\n.* --corpus ravdess"):
        newest_of("r", made())
    with pytest.raises(UserError, match=r"has no whole checkpoint in .* or resume the study"):
        newest_of("r", made(status=""))


def test_the_command_trains_what_the_trial_did(made):
    words = shlex.split(training_command("r", made()).split("train ", 1)[1])
    settings = words[words.index("--set") + 1 :]
    assert dict(zip(words[:10:2], words[1:10:2], strict=True)) == {
        "--corpus": "ravdess", "--noise": "symmetric:0.3", "--fold": "5", "--seed": "4", "--features": words[9],
    }  # fmt: skip
    assert {"loss.name=elr", "model.width=0.25", "optimizer.lr=0.0003"} <= set(settings)
    assert not [one for one in settings if one.startswith("model.dropout")]  # as by default


@pytest.mark.parametrize("space", [name for name in space_names() if name != "classical"])
@pytest.mark.parametrize("model", [{}, {"model.name": "embedding_head", "model.base": "cnn6", "model.pretrained": "w"}])
def test_the_command_has_the_configuration_of_every_loss_and_of_heads(made, space, model):
    """Compare with the trial's, read from the command as a training reads it, over the defaults that it has."""
    for config in load_space(space, {}).configurations({"training.precision": "float32", **model}):
        params = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in config.to_dotted().items()
        }
        words = shlex.split(training_command("r", replace(made(), params=params)))
        given = dict(one.split("=", 1) for one in words[words.index("--set") + 1 :])
        values = {key: parse_value(text) for key, text in given.items()}
        defaults = {**corpus_defaults("ravdess"), **model_defaults(config.model.name)}
        assert Config.from_dotted({**defaults, **values}) == config
