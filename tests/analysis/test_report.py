"""The page has what is known, says what is missing, and loads nothing from the network."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section, about
from analysis.options import RecordsOptions, ReportOptions
from analysis.page import reproduction, trials
from analysis.page.artifacts import log_report
from analysis.page.build import make_sections, without_data
from analysis.page.costs import cost_section
from analysis.page.html.render import PLAIN_ROWS, mark_commands, page_figure, page_table, render
from analysis.page.html.svg import LARGEST_SVG, inline_svg
from analysis.page.noise import noise_section
from analysis.page.opening import Advice, Opening
from analysis.page.provenance import read_provenance
from analysis.page.reproduction import reproduction_commands
from analysis.report import main
from analysis.sections.curves import section as curves
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study.environment import CODE_ROOT as ROOT
from study.options import StudyOptions
from study.schema import SECONDS
from study.tracking.store import search_all

SPACES = ("cross_entropy", "proselflc")
VOID = {"meta", "link", "img", "br", "input"}


NOTHING = Opening((), "", (), (), ())


class Page(HTMLParser):
    """Tags in order, their attributes, the text, and whether they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"style", "script", "title"}:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def both_stages(new_made_store):
    """A store with a search and its confirmation."""
    store = new_made_store()
    store.search({(space, "noisy-B"): [0.3, 0.6] for space in SPACES}, stopped=1)
    store.confirm({(space, "noisy-B", "search-1"): 0.6 for space in SPACES}, seeds=(1,))
    return store


@pytest.fixture(scope="module")
def search_alone(new_made_store):
    """A store with one method's search at one level."""
    store = new_made_store()
    store.search({("proselflc", "noisy-B"): [0.5]})
    return store


@pytest.fixture
def without_figure_files(monkeypatch):
    """Figures take most of a report's time, and their files are tested with the whole page."""
    monkeypatch.setattr("analysis.common.section.save", lambda figure, path: None)


def called(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["report.py", *arguments])
    return run_command(main)


def test_the_page_of_both_stages_is_whole(both_stages, tmp_path, monkeypatch, capsys):
    assert called(monkeypatch, "--tracking-uri", both_stages.uri, "--output", str(tmp_path)) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.all("h1")) == 1
    names = [attributes["id"] for attributes in page.all("section")]
    assert names == [
        "answer", "trained", "terms", "best_runs", "significance", "dose_response", "curves", "selection", "confusion",
        "corrections", "noise", "trials", "protocol", "costs", "reproduction", "not-shown",
    ]  # fmt: skip
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    targets = [attributes["href"] for attributes in page.all("a")]
    assert all((tmp_path / target).exists() for target in targets if not target.startswith("#"))
    assert {target[1:] for target in targets if target.startswith("#")} <= set(identifiers)
    assert all(image["aria-label"].strip() for image in page.all("svg"))
    assert "figure-opening-dose_response" in identifiers  # it opens the page, and is not shown again
    assert "figure-dose_response-dose_response" not in identifiers
    assert not re.search(r"\bnan\b|\bNone\b|\bTraceback\b", page.text)
    assert "cannot show a difference between ProSelfLC and cross entropy" in page.text
    assert (tmp_path / "recommended-noisy-B.yaml").exists()
    assert len(text) < 5e6
    assert text.count("http") == text.count("http-equiv")
    for name in ("significance", "curves", "confusion"):
        assert {path.suffix for path in (tmp_path / name).iterdir()} >= {".svg", ".pdf", ".csv", ".tex"}
    assert str(tmp_path / "report.html") in capsys.readouterr().out


@pytest.mark.usefixtures("without_figure_files")
def test_a_search_alone_says_what_is_missing_and_how_to_get_it(search_alone, tmp_path, monkeypatch):
    assert called(monkeypatch, "--tracking-uri", search_alone.uri, "--output", str(tmp_path)) == 0
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "A search alone cannot show which loss" in page.text
    assert f"python study/confirm.py --experiment made --tracking-uri {search_alone.uri}" in page.text
    assert not re.search(r"\bnan\b", page.text)
    assert any(attributes.get("id") == "figure-opening-best_runs" for attributes in page.all("figure"))


def test_a_section_that_fails_leaves_the_others(both_stages, monkeypatch):
    def broken(*_, **__):
        raise UserError("the table is another one")

    monkeypatch.setattr(curves, "section", broken)
    names = ("curves", "costs")
    sections = {section.name: section for section in make_sections(both_stages.records(), ReportOptions(), names)}
    assert sections["curves"].missing == ("the table is another one",)
    assert sections["costs"].sentences


@pytest.mark.usefixtures("without_figure_files")
def test_mistakes_end_with_one_message(both_stages, search_alone, tmp_path, monkeypatch, capsys):
    assert called(monkeypatch, "--tracking-uri", both_stages.uri, "--reference", "proselfcl") == 2
    assert "Did you mean 'proselflc'" in capsys.readouterr().err
    taken = tmp_path / "file"
    taken.write_text("")
    assert called(monkeypatch, "--tracking-uri", search_alone.uri, "--output", str(taken)) == 2
    assert "not writable" in capsys.readouterr().err
    assert called(monkeypatch, "--tracking-uri", search_alone.uri, "--experiment", "mad") == 2


def test_the_report_is_kept_in_mlflow_once_and_changes_no_trial(search_alone, tmp_path):
    records = search_alone.records()
    path = tmp_path / "report.html"
    path.write_text("<p>")
    (tmp_path / "curves").mkdir()
    figure = tmp_path / "curves" / "curves.png"
    figure.write_bytes(b"png")
    run = log_report(records, [path, figure], tmp_path, "**so**")
    assert log_report(records, [path, figure], tmp_path, "**so**") == run
    assert records.client.get_run(run).data.tags[MLFLOW_RUN_NOTE] == "**so**"
    assert [item.path for item in records.client.list_artifacts(run)] == ["curves", "report.html"]
    again = search_alone.records()
    assert list(again.search.table["run_id"]) == list(records.search.table["run_id"])


def test_a_copy_that_somebody_deletes_while_it_is_replaced_is_made_again(search_alone, tmp_path, monkeypatch):
    records = search_alone.records()
    path = tmp_path / "report.html"
    path.write_text("<p>")
    client = records.client
    first, set_tag = log_report(records, [path], tmp_path, ""), client.set_tag
    monkeypatch.setattr(client, "set_tag", lambda *what: (first in what and client.delete_run(first), set_tag(*what)))
    second = log_report(records, [path], tmp_path, "")
    assert second != first
    assert [item.path for item in client.list_artifacts(second)] == ["report.html"]


@pytest.mark.parametrize("older", [False, True])
def test_costs_are_the_seconds_on_record(both_stages, older):
    """Trials of an older version have no sum on record, and those of this one need no curves."""
    records = both_stages.records()
    found = read_provenance(records)
    if older:
        for run in found.trials:
            del run.data.metrics["train/seconds_so_far"]
    section = cost_section(records, found)
    assert any(SECONDS in key for key in records.results) == older
    (table,) = section.tables
    # Six epochs of a second; a stopped trial has three.
    assert dict(zip(table.data["stage"] + table.data["space"], table.data["seconds"], strict=True)) == {
        f"{stage}{space}": seconds for stage, seconds in (("search", 9.0), ("confirm", 6.0)) for space in SPACES
    }
    assert "6 trials trained for 30 s" in section.sentences[0]
    assert section.sentences[1] == "2 of them did not finish: 6 s (20%)."
    assert set(table.text["method"]) == {"cross entropy", "ProSelfLC"}


def test_the_sheet_has_what_is_recorded_and_says_what_is_not(both_stages):
    records = both_stages.records()
    section = reproduction.section(records, RecordsOptions())
    sheet = dict(zip(section.tables[0].data["what"], section.tables[0].data["value"], strict=True))
    assert sheet["corpus"] == "made"
    assert sheet["utterances"] == "192"
    assert sheet["seeds of the confirmation"] == "1"
    assert sheet["trials of the search"] == "4: 2 finished, 2 stopped"
    shown = section.tables[0].text
    assert shown["value"].str.len().max() < 150
    assert "command" not in set(shown["what"])  # it stands above the table
    assert sheet["command"] in section.sentences[-1]
    ranges = section.tables[1].data.set_index(["space", "parameter"])
    assert ranges.loc[("cross_entropy", "optimizer.lr"), "tried"] == "0.0001 to 0.001"
    assert any("hardware is not on record" in reason for reason in section.missing)


def test_the_commands_of_a_study_are_those_options_that_differ(both_stages):
    records = both_stages.records()
    found = read_provenance(records)
    options = StudyOptions(space=("proselflc", "elr"), corpus="ravdess", trials=6, settings=("model.dropout=0",))
    parents = {run.data.tags["mlflow.parentRunId"] for run in found.search}
    written = replace(found, studies={parent: {"options": options.to_json()} for parent in parents})
    where = f"--experiment made --tracking-uri {both_stages.uri}"
    assert reproduction_commands(records, written) == [
        f"python study/run.py --space proselflc elr --corpus ravdess --set model.dropout=0 --trials 6 {where}",
        f"python study/confirm.py {where} --study made --top 1 --seeds 1",
    ]


def test_the_noise_is_reported_from_the_manifest(search_alone):
    found = read_provenance(search_alone.records())
    (parent,) = found.parents
    manifest = {
        "recipe": "human", "definition": "share of wrong labels.", "rate_asked": 0.4, "rate_realised": 0.4, "seed": 0,
        "digest": "d", "classes": ["a", "b"], "transition_rates": [[0.5, 0.5], [0.3, 0.7]],
        "parts": {"train": {"rate": 0.41}, "validation": {"rate": None}},
    }  # fmt: skip
    section = noise_section(replace(found, manifests={parent: manifest}))
    assert section.sentences == ("noisy-B: 41.0% of the training labels are wrong (recipe human).",)
    assert section.notes[0] == "Recipe human: share of wrong labels."
    table, matrix = section.tables
    assert table.text["validation labels"].tolist() == ["–"]
    assert matrix.text["b"].tolist() == ["50%", "70%"]
    bare = noise_section(replace(found, manifests={}))
    assert "noise_manifest.json" in bare.missing[0]


def test_every_filter_of_the_page_on_mlflow_is_understood(both_stages):
    rows = (ROOT / "docs" / "mlflow.md").read_text(encoding="utf-8").partition("## Filters")[2].partition("##")[0]
    filters = [both or one for both, one in re.findall(r"``(.*?)``|`((?:tags|metrics|params)\..*?)`", rows)]
    assert len(filters) >= 11
    records = both_stages.records()
    found = {text: len(search_all(records.client, [records.identifier], text)) for text in filters}
    assert found["tags.kind = 'parent'"] == 4
    assert found["tags.kind = 'trial' and tags.space = 'proselflc'"] == 3
    assert found["tags.kind = 'trial' and tags.stage = 'confirm' and tags.exposure = 'unseen'"] == 2


def drawing(points=3):
    figure, axes = plt.subplots(figsize=(4, 3))
    axes.plot(np.random.default_rng(0).random(points), "o")
    plt.close(figure)
    return NamedFigure("drawn", "A <caption>", 'What "it" shows', figure)


def test_names_with_markup_are_shown_and_not_obeyed():
    cells = pd.DataFrame({"<b>x</b>": ["<script>alert(1)</script>"]})
    section = Section(
        "evil", "<i>title</i>", ("<b>bold</b> & more",), (NamedTable("t", "<u>", cells, cells),), (drawing(),),
        sounds=(NamedSound("s", "called <anger>", b"fLaC"),), notes=("<p>",),
        missing=("python study/run.py --x '<y>'",),
    )  # fmt: skip
    advice = Advice("<s>", "<s>", "<s>", "<s>.yaml", "<s>", "<s>", "<s>")
    opening = Opening((advice,), "<script>", ("<s>",), (("<s>", "<s>"),), (("<s>", "<s>"), ("more", '"<s>"')))
    text = render("<title>", "&", opening, None, ["<s>"], [section])
    page = Page(text)
    assert len(page.all("script")) == 1  # the page's own
    assert not any(page.all(tag) for tag in ("i", "b", "u", "s"))
    assert "<script>alert(1)</script>" in page.text
    (audio,) = page.all("audio")
    assert audio["src"].startswith("data:audio/flac;base64,")
    assert audio["aria-label"] == "called <anger>"
    assert page.all("svg")[0]["aria-label"] == 'What "it" shows'
    assert {"class": "term", "href": "#term-more", "title": '"<s>"'} in page.all("a")


@pytest.mark.parametrize(
    ("sentence", "command"),
    [
        ("To get it: python study/confirm.py --experiment a --tracking-uri sqlite:///m.db", None),
        ("Run python study/run.py, then look.", "python study/run.py"),
        ("python study/run.py with a new --name.", "python study/run.py"),
        ("Use python study/run.py --resume --trials 10. Then wait.", "python study/run.py --resume --trials 10"),
        ("Or (python study/confirm.py --experiment 'a b')", "python study/confirm.py --experiment &#39;a b&#39;"),
        ("A python is a snake.", ""),
        ("To confirm: ambivalent confirm --experiment a", None),
        ("To repeat it: ambivalent study --space elr proselflc --trials 6", None),
        ("To repeat it: python study/confirm.py --seeds 1 --primary elr noisy-B", None),
    ],
)  # fmt: skip
def test_commands_are_marked_and_prose_is_not(sentence, command):
    marked = str(mark_commands(sentence))
    found = re.findall("<code>(.*?)</code>", re.sub("</?span>", "", marked))
    expected = [sentence.partition(": ")[2]] if command is None else [command] if command else []
    assert found == expected


def test_a_figure_of_too_many_marks_is_embedded_as_pixels():
    few, many = page_figure(drawing(), "a"), page_figure(drawing(LARGEST_SVG // 60), "a")
    assert few.svg.startswith("<svg")
    assert not few.png
    assert many.png.startswith("data:image/png")
    assert not many.svg
    assert (few.width, few.height) == (384, 288)


def test_a_figure_within_the_page_has_no_style_and_ids_of_its_own():
    """A strict policy forbids styles, and two figures of a page may have the same marks."""
    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1], "o", color="#0072B2", gid="marks")
    axes.set_title("What is drawn")
    plt.close(figure)
    drawn = NamedFigure("drawn", "caption", "alternative", figure, hover={"marks": "40 % < 50 %"})
    page = Page(inline_svg(drawn, "one") + inline_svg(drawn, "two"))
    assert not page.all("style")
    assert not any({"style", "font-family", "xmlns"} & set(attributes) for _, attributes in page.tags)
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {"one-marks", "two-marks"} <= set(identifiers)
    links = [attributes["href"].removeprefix("#") for attributes in page.all("use")]
    assert links
    assert set(links) <= set(identifiers)
    assert page.text.count("40 % < 50 %") == 0  # a title is no text of the page
    assert "What is drawn" in page.text
    colours = {attributes.get("fill") for _, attributes in page.tags}
    assert {"currentColor", "var(--paper)", "#0072b2"} <= colours


def test_the_policy_allows_the_style_and_the_script_of_the_page_and_no_other():
    text = render("t", "s", NOTHING, drawing(), [], [])
    (policy,) = (one["content"] for one in Page(text).all("meta") if one.get("http-equiv"))
    for tag in ("style", "script"):
        content = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_term_is_explained_where_a_section_uses_it_first():
    opening = replace(NOTHING, primary="UAR and UAR, not val_UAR, noisy-B", terms=(("UAR", "mean recall"), ("B", "x")))
    page = Page(render("t", "s", opening, None, [], [Section("a", "A", ("UAR; UAR",)), Section("b", "B", ("none",))]))
    assert [link["href"] for link in page.all("a") if link.get("class") == "term"] == ["#term-UAR", "#term-UAR"]
    assert {"id": "term-UAR"} in page.all("div")


def test_long_tables_keep_all_rows_for_the_script_and_empty_ones_are_not_shown():
    data = pd.DataFrame({"name": ["x" * 40] * PLAIN_ROWS + ["</script>"], "score": ["0.5"] * (PLAIN_ROWS + 1)})
    table = NamedTable("long", "caption", data, data, keys=2)
    found = page_table(table, "a")
    assert len(found.rows) == PLAIN_ROWS
    assert [(column.kind, column.is_key) for column in found.columns] == [("text", True), ("number", True)]
    assert found.is_browsed
    assert found.is_records
    text = render("t", "s", NOTHING, None, [], [Section("a", "A", tables=(table, replace(table, text=data.head(0))))])
    rest = re.findall('<script type="application/json">(.*?)</script>', text)
    assert [json.loads(one) for one in rest] == [[["</script>", "0.5"]]]
    assert len(Page(text).all("table")) == 1
    assert not page_table(replace(table, text=data.head(5)), "a").is_browsed


def test_a_section_with_nothing_to_show_is_a_line_at_the_end():
    lacking = Section("lacking", "Lacking", missing=("Run python study/run.py again.",))
    partly = Section("partly", "Partly", ("A finding.",), missing=("A reason.",))
    page = Page(render("t", "s", NOTHING, None, [], [lacking, partly]))
    assert [one["id"] for one in page.all("section")] == ["answer", "partly", "not-shown"]
    assert page.text.index("A finding.") < page.text.index("Lacking") < page.text.index("A reason.")
    assert {"href": "#not-shown-partly"} in page.all("a")


def test_the_table_of_trials_has_those_of_both_stages(both_stages):
    (table,) = trials.section(both_stages.records(), RecordsOptions()).tables
    assert table.data["stage"].tolist() == ["search", "search", "confirmation"] * 2
    assert len(set(table.data["run_id"])) == 6
    first, last = table.text.iloc[0], table.text.iloc[2]
    assert first["method"] == last["method"] == "cross entropy"
    assert (first["configuration"], first["test UAR"], first["fold"]) == ("trial 001", "–", "–")
    assert (last["configuration"], last["seed"]) == ("search-1", "1")
    assert last["test UAR"] == f"{100 * table.data['test_uar'].iloc[2]:.1f}%"
    assert table.filters == ("method", "stage", "status", "study")


def test_the_table_of_a_search_has_no_empty_columns(search_alone):
    (table,) = trials.section(search_alone.records(), RecordsOptions()).tables
    assert "test UAR" not in table.text
    assert table.filters == ()


def test_the_page_names_the_data_once_and_not_in_every_caption():
    records = SimpleNamespace(data="made")
    drawn = NamedFigure("drawn", "A caption", "alternative", plt.figure())
    table = NamedTable("t", "Scores", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": ["1"]}))
    named = about(Section("s", "Title", tables=(table,), figures=(drawn,)), records.data)
    assert named.tables[0].caption == "made: Scores"
    found = without_data(named, records)
    assert (found.title, found.tables[0].caption, found.figures[0].caption) == ("Title", "Scores", "A caption")
