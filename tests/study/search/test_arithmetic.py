"""A study that is resumed in other arithmetic says so before a trial runs."""

from types import SimpleNamespace

import pytest

from ser.training.device.arithmetic import Arithmetic
from study.backend.trial_resources import TrialResources
from study.options import StudyOptions
from study.search.arithmetic import earlier_arithmetic, without_networks
from study.tracking.event_log import EventLog

GPU, CPU = "cuda bfloat16", "cpu float32"
NETWORK, CLASSICAL = {"model.width": 0.03}, {"model.name": "random_forest", "model.front_end": "handcrafted_16k"}
HEAD = {"model.name": "embedding_head", "model.base": "cnn14", "model.pretrained": "cnn14.pth"}


def search(*configurations):
    return SimpleNamespace(planned=[SimpleNamespace(configuration=values) for values in configurations])


def logs(*arithmetics):
    return SimpleNamespace(arithmetics=lambda: list(arithmetics))


def resources(name):
    device, precision = name.split()
    return TrialResources(1.0, float(device == "cuda"), 1, arithmetic=Arithmetic(device, precision))


def warning(now, searches, *found):
    return earlier_arithmetic(resources(now), searches, [logs(*each) for each in found], StudyOptions())


@pytest.mark.parametrize(("now", "before"), [(CPU, GPU), (GPU, CPU), (CPU, "cpu bfloat16"), (GPU, "cuda float32")])
def test_both_are_named_where_they_differ(now, before):
    said = warning(now, [search(NETWORK)], [before, now, before])
    assert f"2 trials of this study were computed in {before}, and those of now are in {now}." in said
    assert "1 trial of this study was computed in" in warning(now, [search(NETWORK)], [before])


def test_nothing_is_said_where_they_are_equal_or_not_known():
    for found in ([], [GPU], [GPU, GPU]):
        assert warning(GPU, [search(NETWORK)], found) == ""


def test_a_trial_that_two_devices_have_computed_counts():
    mixed = f"{GPU}, then {CPU}"
    assert f"1 trial of this study was computed in {mixed}" in warning(GPU, [search(NETWORK)], [mixed])


def test_a_precision_that_the_configuration_chooses_is_no_difference_and_the_device_is():
    searches = [search({**NETWORK, "training.precision": "float32"}, {**NETWORK, "training.precision": "bfloat16"})]
    assert warning(GPU, searches, ["cuda float32", GPU]) == ""
    assert "in cpu float32" in warning(GPU, searches, ["cpu float32", GPU])


def test_heads_on_cpus_next_to_networks_on_gpus_are_no_difference():
    searches = [search(NETWORK), search(HEAD)]
    assert warning(GPU, searches, [GPU], [CPU]) == ""
    assert "1 trial of this study was computed in cuda float32" in warning(GPU, searches, [GPU], ["cuda float32"])


def test_classical_models_have_no_arithmetic():
    options = StudyOptions()
    assert without_networks(resources(CPU), [search(CLASSICAL)], options).arithmetic is None
    assert without_networks(resources(CPU), [search(CLASSICAL), search(NETWORK)], options).arithmetic is not None
    assert "cpu" not in without_networks(resources(CPU), [search(CLASSICAL)], options).in_words
    assert resources(CPU).in_words == "1 CPU, 0 GPU; 1 at a time; cpu float32"


def test_an_event_log_knows_what_its_trial_reported(tmp_path):
    log = EventLog(tmp_path / "trial")
    log.take([{"kind": "tags", "tags": {"arithmetic": GPU}}])
    assert EventLog(tmp_path / "trial").tags["arithmetic"] == GPU
