"""Trials of one protocol that were computed in other arithmetic are not mixed, and named with what shows them."""

import shlex
from dataclasses import replace

import pytest

from analysis.common.designs import read_design
from analysis.common.records import open_records
from analysis.options import RecordsOptions
from analysis.page.reproduction import section
from ser.utils.errors import UserError
from study.commands.confirm import summary
from study.options import StudyOptions
from study.schema import SELECTIONS, Tag
from study.tracking.confirmations import confirmed_table
from study.tracking.searches import read_trials
from study.tracking.store import search_all

GPU, CPU = {Tag.ARITHMETIC: "cuda bfloat16"}, {Tag.ARITHMETIC: "cpu float32"}
SKILLS = {("cross_entropy", "clean"): [0.4, 0.6]}


@pytest.fixture(scope="module")
def store(new_made_store):
    """A search that two sessions have computed on different devices, and its confirmation on a third kind."""
    store = new_made_store()
    store.search({("cross_entropy", "clean"): [0.4, 0.6, 0.5]}, study="s", tags=GPU, protocol="p")
    store.search(SKILLS, study="t", tags=CPU, protocol="p")
    store.confirm({("cross_entropy", "clean", "search-1"): 0.6}, study="c", protocol="p", tags=GPU, folds=(3,))
    return store


def opened(store, study=None, arithmetic=None):
    return open_records(RecordsOptions(store.uri, "made", study, arithmetic))


def test_the_newest_arithmetic_is_shown_and_the_command_shows_the_other(store):
    records = opened(store)
    assert set(records.search.table["study"]) == {"t"}
    assert set(records.confirmed["study"]) == {"c"}  # computed otherwise, and still its confirmation
    (line,) = records.remarks("analysis/report.py")
    assert line.startswith("Left out: 3 trials computed in other arithmetic (cuda bfloat16) than those shown (")
    python, script, *words = shlex.split(line.partition("To show those alone: ")[2])
    assert (python, script) == ("python", "analysis/report.py")
    given = dict(zip(words[::2], words[1::2], strict=True))
    other = opened(store, arithmetic=given["--arithmetic"])
    assert set(other.search.table["study"]) == {"s"}
    assert "--arithmetic 'cuda bfloat16'" in other.own_command("analysis/curves.py")


def test_all_are_shown_together_if_that_is_asked_for(store):
    records = opened(store, arithmetic="any")
    assert len(records.search.table) == 5
    assert not any("arithmetic" in line for line in records.remarks("analysis/report.py"))
    (sheet,) = [table for table in section(records, RecordsOptions()).tables if table.name == "reproduction"]
    facts = sheet.data.set_index("what")["value"]
    assert facts["arithmetic"] == "cpu float32, cuda bfloat16"


@pytest.mark.parametrize(
    ("study", "arithmetic", "said"),
    [
        (None, "cuda bfloat", "'cuda bfloat16'"),
        ("s", "cpu float32", "no trial of study 's' was computed in cpu float32"),
        ("x", None, "study 'x'"),
    ],
)
def test_an_arithmetic_or_a_study_that_is_not_there_is_an_error(store, study, arithmetic, said):
    with pytest.raises(UserError) as raised:
        opened(store, study, arithmetic)
    assert said in str(raised.value)


def test_a_confirmation_says_which_trials_of_the_search_it_leaves_out(store):
    trials = read_trials(store.client, store.experiment)
    assert (len(trials.table), trials.others) == (2, 0)
    assert [run.data.tags["arithmetic"] for run in trials.otherwise] == ["cuda bfloat16"] * 3
    (line,) = trials.left_out
    assert line.startswith(
        "3 trials of the same protocol left out, because computed in other arithmetic (cuda bfloat16)"
    )
    assert line.endswith("analysis/best_runs.py … --arithmetic 'cuda bfloat16'")
    assert read_trials(store.client, store.experiment, "s").left_out == []


@pytest.mark.parametrize(("planned", "missing"), [(5, []), (6, [("cross entropy at clean in study s", 1, 6)])])
def test_trials_that_are_left_out_for_their_arithmetic_are_on_record(store, planned, missing):
    trials = read_trials(store.client, store.experiment)
    of_one_study = replace(trials, table=trials.table.assign(study="s", planned=planned))
    assert of_one_study.not_recorded == missing


def test_the_summary_of_a_confirmation_says_where_its_trainings_differ(store):
    design, _ = read_design(opened(store), "c")
    options = StudyOptions(name="c", experiment="made", tracking_uri=store.uri)
    query = "tags.kind = 'trial' and tags.stage = 'confirm'"
    table = confirmed_table(search_all(store.client, [store.experiment], query))
    selection = SELECTIONS["noisy"]
    assert "differ in arithmetic" not in summary(table, selection, options, design)
    table.loc[table.index[0], "arithmetic"] = "cpu float32"
    said = summary(table, selection, options, design)
    assert "The trainings differ in arithmetic (cpu float32: 1, cuda bfloat16: 2): analyses show" in said
    # Heads on embeddings are trained on CPUs where other networks have GPUs.
    table.at[table.index[0], "parameters"] = {**table["parameters"].iloc[0], "model.name": "embedding_head"}
    assert "differ in arithmetic" not in summary(table, selection, options, design)
