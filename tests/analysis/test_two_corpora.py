"""An experiment that holds two corpora: nothing is mixed, everything left out is named, and commands can be copied."""

import shlex
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis.common.designs import read_design
from analysis.common.families import read_families
from analysis.common.records import open_records
from analysis.common.section import NamedFigure, NamedTable, Section, about
from analysis.options import RecordsOptions
from analysis.page.artifacts import log_report
from analysis.page.build import render_report
from analysis.page.opening import Opening
from ser.utils.errors import UserError
from study.schema import SEARCH_RECORD, SELECTIONS, Tag
from study.tracking.confirmations import representatives
from study.tracking.opening import experiment_id
from study.tracking.searches import best_runs
from study.tracking.store import search_all
from tests.helpers.made_records import make_search

CALLS = {Tag.CORPUS: "table", Tag.CORPUS_DIGEST: "calls-digest"}
INTERVIEWS = {Tag.CORPUS: "table", Tag.CORPUS_DIGEST: "interviews-digest"}
TWO = {("cross_entropy", "clean"): [0.4, 0.6]}


def log_file_of_table(store, study, path):
    """Record which file a study's table is, as its parent run has it."""
    for run in search_all(store.client, [store.experiment], f"tags.kind = 'parent' and tags.study = \"{study}\""):
        record = {"options": {"corpus": "table", "corpus_root": path, "space": ["cross_entropy"], "name": study}}
        store.client.log_dict(run.info.run_id, record, SEARCH_RECORD)


def opened(store, study=None):
    return open_records(RecordsOptions(store.uri, "made", study))


@pytest.fixture(scope="module")
def two_corpora(new_made_store):
    """A search and its confirmation of one table, and then a search of another."""
    store = new_made_store()
    store.search(TWO, study="its calls", tags=CALLS, protocol="p1")
    store.confirm({("cross_entropy", "clean", "search-1"): 0.6}, study="calls-confirm", protocol="p1", tags=CALLS)
    store.search({**TWO, ("elr", "clean"): [0.5]}, study="interviews", tags=INTERVIEWS, protocol="p2")
    for study, path in (("its calls", "/data/calls.csv"), ("interviews", "/data/interviews.parquet")):
        log_file_of_table(store, study, path)
    log_file_of_table(store, "calls-confirm", "/data/calls.csv")
    return store


def test_the_newer_one_is_shown_with_what_matches_it_and_the_other_is_named(two_corpora):
    records = opened(two_corpora)
    assert set(records.search.table["study"]) == {"interviews"}
    assert records.confirmed.empty
    first, *others = records.remarks("analysis/report.py")
    assert first.startswith("The newest search (interviews, interviews interv) and the newest confirmation (calls-conf")
    assert "are of different data, so they are not shown together: this is the search" in first
    assert records.data == "interviews"
    assert {line.partition(". To show")[0] for line in others} == {
        "Left out: 2 trials of search its calls (calls), another corpus or another state of it",
        "Left out: 3 trials of confirmation calls-confirm (calls), another corpus or another state of it",
    }
    page = render_report(records, Opening((), "a", ("b", "c"), (), ()), [])
    assert page.index("are of different data") < page.index("<main>") < page.index("Left out: 2 trials")
    assert "<title>interviews: which loss" in page


def test_the_printed_commands_show_what_was_left_out(two_corpora):
    lines = [line for line in opened(two_corpora).remarks("analysis/report.py") if line.startswith("Left out")]
    shown = {}
    for line in lines:
        python, script, *words = shlex.split(line.partition("To show them: ")[2])
        assert (python, script) == ("python", "analysis/report.py")
        given = dict(zip(words[::2], words[1::2], strict=True))
        records = open_records(RecordsOptions(given["--tracking-uri"], given["--experiment"], given["--study"]))
        shown[given["--study"]] = records
    assert set(shown) == {"its calls", "calls-confirm"}
    for records in shown.values():
        assert set(records.search.table["study"]) == {"its calls"}
        assert set(records.confirmed["study"]) == {"calls-confirm"}
        assert records.data == "calls"
        assert records.remarks("analysis/report.py") == []
    confirm = shlex.split(shown["its calls"].confirm_command())
    assert confirm[confirm.index("--study") + 1] == "its calls"


def test_a_report_of_each_corpus_is_kept(two_corpora, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<p>")
    runs = {log_report(opened(two_corpora, study), [page], tmp_path, "") for study in ("interviews", "its calls")}
    assert len(runs) == 2
    assert log_report(opened(two_corpora, "calls-confirm"), [page], tmp_path, "") in runs


def test_titles_tables_and_figures_name_the_data():
    figure, axes = plt.subplots(layout="constrained")
    axes.plot([1, 2])
    table = NamedTable("t", "Scores", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": ["1"]}))
    section = Section("s", "Best runs", tables=(table,), figures=(NamedFigure("f", "Trials", "dots", figure),))
    found = about(section, "calls", ["Left out: 1 trial."])
    assert found.title == "Best runs: calls"
    assert (found.tables[0].caption, found.figures[0].caption) == ("calls: Scores", "calls: Trials")
    assert figure.get_supxlabel() == "calls"
    assert found.notes == ("Left out: 1 trial.",)
    assert about(replace(section, tables=(), figures=()), "calls", ["x"]).missing == ("x",)


def test_a_study_is_found_in_the_experiment_that_holds_it(made_store, tmp_path):
    made_store.search(TWO, study="both")
    made_store.search(TWO, study="mine")
    other = experiment_id(made_store.client, made_store.uri, "other")
    make_search(made_store.client, other, tmp_path / "more", TWO, study="both")
    found = open_records(RecordsOptions(made_store.uri, study="mine"))
    assert (found.experiment, set(found.search.table["study"])) == ("made", {"mine"})
    with pytest.raises(UserError, match=r"--study 'both' is in 2 experiments of .*: made, other. Name one"):
        open_records(RecordsOptions(made_store.uri, study="both"))
    # Neither a registered model nor a stranger's run makes an experiment the newest one.
    for name, tags in (("made", {"kind": "model"}), ("Default", {})):
        made_store.client.create_run(made_store.client.get_experiment_by_name(name).experiment_id, tags=tags)
    assert open_records(RecordsOptions(made_store.uri)).experiment == "other"


def test_spaces_of_one_name_are_told_apart_in_every_table(made_store):
    for study, skill, content in (("a", 0.4, "a" * 16), ("b", 0.8, "b" * 16)):
        tags = {Tag.SPACE_DIGEST: content}
        made_store.search({("cross_entropy", "clean"): [skill], ("elr", "clean"): [0.5]}, study=study, tags=tags)
        skills = {("elr", "clean", "default"): skill, ("cross_entropy", "clean", "default"): 0.5}
        made_store.confirm(skills, study=f"{study}-confirm", tags=tags, seeds=(1,), folds=(3, 4))
    records = made_store.records()
    best = best_runs(records.search)
    assert list(best["space"]) == [f"{space}@{content}" for space in ("cross_entropy", "elr") for content in
                                   ("aaaaaa", "bbbbbb")]  # fmt: skip
    assert list(best["finished"]) == [1] * 4
    line = next(line for line in records.remarks("x") if "named elr" in line)
    assert "elr@aaaaaa (study a and a-confirm), elr@bbbbbb (study b and b-confirm)" in line
    design, _ = read_design(records, "a-confirm")
    assert (design.methods, design.reference) == (("elr@aaaaaa", "cross_entropy@aaaaaa"), "cross_entropy@aaaaaa")
    families = read_families(records)
    assert [list(family.compared["method"]) for family in families] == [["elr@aaaaaa"], ["elr@bbbbbb"]]
    assert all(family.is_complete for family in families)
    assert records.recorded_space("elr@aaaaaa") == "elr"


def test_a_running_study_and_deleted_trials_are_reported(made_store):
    made_store.search({("elr", "clean"): [0.4, 0.6, 0.5]}, study="long")
    first, second, _ = search_all(made_store.client, [made_store.experiment], "tags.kind = 'trial'")
    made_store.client.delete_run(first.info.run_id)
    made_store.client.update_run(second.info.run_id, "RUNNING")
    records = made_store.records()
    assert len(records.search.table) == 2
    assert records.search.not_recorded == [("ELR at clean in study long", 1, 3)]
    assert records.remarks("x") == ["Numbers may change: long is running, or was killed and not resumed."]


def test_candidates_of_one_name_in_two_confirmations_are_not_averaged(made_store):
    skills = {("elr", "clean", "search-1"): 0.4, ("elr", "clean", "default"): 0.6}
    made_store.confirm(skills, study="first", seeds=(1, 2))
    made_store.confirm({("elr", "clean", "search-1"): 0.9}, study="second", seeds=(3,))
    (named,) = representatives(made_store.records().confirmed, SELECTIONS["noisy"]).to_dict("records")
    table = made_store.records().confirmed
    (expected,) = table[(table["study"] == "second")]["selected"]
    assert (named["study"], named["candidate"], named["selected"]) == ("second", "search-1", expected)
