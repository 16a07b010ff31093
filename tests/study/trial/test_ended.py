"""Tests of the end of a trial: its records come first, its network in the background."""

import errno
import json
import threading

import pytest
import torch

from study.trial.checkpoints import DIGEST, save_checkpoint
from study.trial.ended import ENDED, Ended, Saver, has_network, on_host, read_ended, remove_network

WHOLE = Ended(3, [{"kind": "epoch", "epoch": 3, "metrics": {"val/uar": 0.1 + 0.2}}], keeps=True)


def test_what_a_trial_reported_is_read_as_it_was_and_a_part_of_it_is_nothing(tmp_path):
    assert read_ended(tmp_path) is None
    WHOLE.write(tmp_path)
    assert read_ended(tmp_path) == WHOLE
    text = (tmp_path / ENDED).read_text()
    assert json.loads(text)["events"] == list(WHOLE.events)
    for end in range(len(text)):
        (tmp_path / ENDED).write_text(text[:end])
        assert read_ended(tmp_path) is None


def test_a_network_is_there_once_the_state_of_the_last_epoch_is_whole(tmp_path):
    save_checkpoint({"epoch": 2, "model": {}}, tmp_path)
    assert has_network(tmp_path)  # of a trial of an earlier version, which has its states alone
    WHOLE.write(tmp_path)
    assert not has_network(tmp_path)
    last = save_checkpoint({"epoch": 3, "model": {}}, tmp_path)
    assert has_network(tmp_path)
    last.with_suffix(DIGEST).unlink()
    assert not has_network(tmp_path)
    (tmp_path / "records.jsonl").touch()
    remove_network(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_one_network_is_written_at_a_time_and_nobody_waits_for_it_but_the_next():
    saver, may_end, ended = Saver(), threading.Event(), []

    def first():
        may_end.wait(10)
        ended.append(1)

    saver.start(first)
    saver.check()
    assert not ended
    threading.Timer(0.05, may_end.set).start()
    saver.start(lambda: ended.append(2))
    assert ended[0] == 1
    saver.join()
    assert ended == [1, 2]
    saver.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "network"]


@pytest.mark.parametrize("how", ["check", "join", "start", "end"])
def test_an_error_of_a_network_on_its_way_to_the_disk_is_raised_once(how):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    saver = Saver()
    saver.start(full)
    saver._thread.join()
    if how == "end":  # of the process: the study finds that the network is not there
        saver.end()
        return
    with pytest.raises(OSError, match="No space left"):
        saver.start(lambda: None) if how == "start" else getattr(saver, how)()
    saver.check()
    saver.join()


def test_a_state_on_the_host_is_the_state_itself():
    model = torch.nn.BatchNorm1d(2).state_dict()
    state = {"model": model, "epoch": 3, "list": [torch.ones(1), "text"], "pair": (1, 2)}
    found = on_host(state)
    assert found.keys() == state.keys()
    assert (type(found["model"]), found["model"]._metadata) == (type(model), model._metadata)
    assert all(found["model"][name] is tensor for name, tensor in model.items())
    assert found["list"][0] is state["list"][0]
    assert (found["epoch"], found["pair"], found["list"][1]) == (3, (1, 2), "text")
