"""The default of log 0 has changed from −4 to −9.21: what was stored without it keeps −4."""

import math

import pytest

from ser.config import Config, explicit, stored
from ser.losses import LOSSES
from ser.training.loop import train
from ser.utils.errors import UserError
from ser.utils.hashing import digest

CHANGED = ("symmetric_cross_entropy", "normalized_losses")
SMALL = {"model.width": 0.03, "training.epochs": 2, "training.batch_size": 8, "training.crop_seconds": 0.5}


@pytest.mark.parametrize("name", CHANGED)
def test_a_configuration_names_the_value_and_one_stored_without_it_has_the_former(name):
    values = {"loss.name": name, "loss.beta": 0.5}
    assert Config.from_dotted(values).to_dotted()["loss.log_zero"] == math.log(1e-4)
    assert explicit(values)["loss.log_zero"] == math.log(1e-4)
    assert stored(values)["loss.log_zero"] == -4
    for kept in ({**values, "loss.log_zero": -2.0}, explicit(values)):
        assert explicit(kept) == stored(kept) == kept


@pytest.mark.parametrize("name", sorted({*LOSSES} - {*CHANGED}))
def test_other_losses_are_stored_as_they_are(name):
    assert explicit({"loss.name": name}) == stored({"loss.name": name}) == {"loss.name": name}


def test_a_run_of_version_0_1_resumes_with_the_former_value_and_no_other(task_at):
    task, values = task_at("symmetric:0.25"), {**SMALL, "loss.name": "symmetric_cross_entropy"}
    former = Config.from_dotted(stored(values))
    state = next(train(former, task, seed=0)).state
    later = ("loss.log_zero", "training.deterministic")
    state["config"] = {key: value for key, value in former.to_dotted().items() if key not in later}
    manifest = {key: value for key, value in task.manifest.items() if key != "labels"}
    state["fingerprint"] = digest([state["config"], 0, manifest, list(task.train.utterance_ids)])

    resumed = next(train(Config.from_dotted(stored(state["config"])), task, seed=0, state=state))
    assert (resumed.epoch, resumed.state["config"]["loss.log_zero"]) == (2, -4)
    with pytest.raises(UserError, match="belongs to another configuration"):
        next(train(Config.from_dotted(values), task, seed=0, state=state))
