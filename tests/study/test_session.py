"""Tests of the end of a session: what it does with runs that somebody deletes while it closes them."""

from dataclasses import replace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from rich.console import Console

from study.options import StudyOptions
from study.schema import KIND, PARENT, TRIAL, Tag
from study.search.parents import close_runs
from study.search.run_search import open_search, search_key
from study.setup.prepare import prepare
from study.tracking.store import find_run, repeat_if_deleted
from tests.helpers.tiny_corpora import write_noise_corpus

CHANGES = ("set_terminated", "set_tag", "update_run", "log_inputs", "log_dict", "log_artifacts", "log_batch")


class Deleting:
    """Client of a store in which somebody deletes a run right before the first change of it, once."""

    def __init__(self, client, run_id):
        self._client, self._run_id, self.before = client, run_id, None

    def __getattr__(self, name):
        real = getattr(self._client, name)

        def change(run_id, *arguments, **options):
            if run_id == self._run_id and self.before is None:
                self.before = name
                self._client.delete_run(run_id)
            return real(run_id, *arguments, **options)

        return change if name in CHANGES else real


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepare a study on eight utterances by four speakers."""
    folder = tmp_path_factory.mktemp("session")
    table = write_noise_corpus(folder, count=8, of_a_speaker=2, samples=16000)
    options = StudyOptions(
        space=("cross_entropy",), corpus="table", corpus_root=table, noise=("clean",), name="closed",
        experiment="e", epochs=1, trials=1, width=0.03, storage_path=folder / "out",
        tracking_uri=f"sqlite:///{folder}/m.db",
    )  # fmt: skip
    prepared = prepare(options, Console(quiet=True))
    yield prepared
    prepared.release()


def begin(prepared):
    """Open the parent run of the study's search, with a trial that is left running; return both ids."""
    (search,) = prepared.searches
    parent = open_search(prepared, search)
    client, tags = prepared.records.client, {**search_key(prepared.options, search), KIND: TRIAL, Tag.TRIAL: "001"}
    trial = client.create_run(prepared.records.experiment, tags={**tags, "mlflow.parentRunId": parent})
    return parent, str(trial.info.run_id)


def parent_of(prepared):
    key = {**search_key(prepared.options, prepared.searches[0]), KIND: PARENT}
    return find_run(prepared.records.client, prepared.records.experiment, key)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_deleted_while_the_runs_are_closed_is_no_error(prepared, victim, complete):
    runs = begin(prepared)
    client = Deleting(prepared.records.client, runs[victim])
    disturbed = replace(prepared, records=replace(prepared.records, client=client))
    repeat_if_deleted(lambda: close_runs(disturbed, [runs[0]], [complete]))
    assert client.before is not None
    parent = parent_of(prepared)
    assert (parent.info.run_id == runs[0]) is (victim == 1)
    assert parent.info.status == ("FINISHED" if complete else "KILLED")
    assert Tag.SUMMARY in parent.data.tags
    assert client.get_run(runs[victim]).info.lifecycle_stage == "deleted"
    if victim == 0:
        assert client.get_run(runs[1]).info.status == "KILLED"


def test_a_parent_run_deleted_while_a_session_opens_it_is_created_again(prepared):
    parent, _ = begin(prepared)
    client = Deleting(prepared.records.client, parent)
    disturbed = replace(prepared, records=replace(prepared.records, client=client))
    opened = repeat_if_deleted(lambda: open_search(disturbed, prepared.searches[0]))
    assert client.before == "update_run"
    assert opened != parent
    assert parent_of(prepared).info.run_id == opened


@pytest.mark.parametrize(("code", "calls"), [(INVALID_PARAMETER_VALUE, 3), (INTERNAL_ERROR, 1)])
def test_what_a_store_refuses_for_another_reason_stays_an_error(code, calls):
    made = []

    def refused():
        made.append(1)
        raise MlflowException("no", code)

    with pytest.raises(MlflowException, match="no"):
        repeat_if_deleted(refused)
    assert len(made) == calls
