"""The page has what is known, says what is missing, and loads nothing from the network."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis.common import registry
from analysis.common.records import RecordsOptions
from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section
from analysis.page import reproduction
from analysis.page.artifacts import log_report
from analysis.page.build import ReportOptions, main, make_sections
from analysis.page.costs import cost_section
from analysis.page.noise import noise_section
from analysis.page.provenance import read_provenance
from analysis.page.html.render import FULL_ROWS, LARGEST_SVG, mark_commands, page_figure, page_table, render
from analysis.page.reproduction import reproduction_commands
from analysis.sections.curves import section as curves
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study.environment import CODE_ROOT as ROOT
from study.options import StudyOptions
from study.schema import SECONDS
from study.tracking.store import search_all

SPACES = ("cross_entropy", "proselflc")
VOID = {"meta", "link", "img", "br", "input"}


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
        if not self.open or self.open[-1] not in {"style", "title"}:
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
        "answer", "best_runs", "significance", "dose_response", "across_corpora", "curves", "importance", "selection",
        "confusion",
        "embeddings", "corrections", "noise", "protocol", "costs", "reproduction",
    ]  # fmt: skip
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    targets = [attributes["href"] for attributes in page.all("a")]
    assert all(target.startswith("#") and target[1:] in identifiers for target in targets)
    assert all(image["alt"].strip() and image["src"].startswith("data:image/") for image in page.all("img"))
    assert identifiers.index("figure-significance") < identifiers.index("best_runs")  # it opens the page
    assert identifiers.count("figure-significance") == 1
    assert not re.search(r"\bnan\b|\bNone\b|\bTraceback\b", page.text)
    assert "train with cross_entropy, the reference: nothing shows that proselflc is better" in page.text
    assert (tmp_path / "recommended-noisy-B.yaml").exists()
    assert len(text) < 5e6
    assert text.count("http") == text.count("http-equiv") + text.count("http://www.w3.org/")
    for name in ("significance", "curves", "confusion"):
        assert {path.suffix for path in (tmp_path / name).iterdir()} >= {".svg", ".pdf", ".csv", ".tex"}
    assert str(tmp_path / "report.html") in capsys.readouterr().out


@pytest.mark.usefixtures("without_figure_files")
def test_a_search_alone_says_what_is_missing_and_how_to_get_it(search_alone, tmp_path, monkeypatch):
    assert called(monkeypatch, "--tracking-uri", search_alone.uri, "--output", str(tmp_path)) == 0
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "The search alone cannot show which loss" in page.text
    assert f"python study/confirm.py --experiment made --tracking-uri {search_alone.uri}" in page.text
    assert not re.search(r"\bnan\b", page.text)
    assert any(attributes["id"] == "figure-best_runs" for attributes in page.all("figure") if "id" in attributes)


def test_a_section_that_fails_leaves_the_others(both_stages, monkeypatch):
    def broken(*_, **__):
        raise UserError("the table is another one")

    monkeypatch.setattr(curves, "section", broken)
    names = ("curves", "costs")
    monkeypatch.setattr("analysis.page.build.SECTIONS", {name: registry.SECTIONS[name] for name in names})
    sections = {section.name: section for section in make_sections(both_stages.records(), ReportOptions())}
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
    run = log_report(records, [path, figure], tmp_path)
    assert log_report(records, [path, figure], tmp_path) == run
    assert [item.path for item in records.client.list_artifacts(run)] == ["curves", "report.html"]
    again = search_alone.records()
    assert list(again.search.table["run_id"]) == list(records.search.table["run_id"])


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
    assert "6 s of it (20%) were spent on 2 trials that did not finish" in section.sentences[1]


def test_the_sheet_has_what_is_recorded_and_says_what_is_not(both_stages):
    records = both_stages.records()
    section = reproduction.section(records, RecordsOptions())
    sheet = dict(zip(section.tables[0].data["what"], section.tables[0].data["value"], strict=True))
    assert sheet["corpus"] == "made"
    assert sheet["utterances"] == "192"
    assert sheet["seeds of the confirmation"] == "1"
    assert sheet["trials of the search stage"] == "4: 2 finished, 2 stopped"
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
    assert section.sentences == ("noisy-B: recipe human, 41.00% of the train labels are wrong. share of wrong labels.",)
    table, matrix = section.tables
    assert table.text["validation"].tolist() == ["–"]
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
    text = render("<title>", "&", ["<script>"], None, ["<w>"], [section])
    page = Page(text)
    assert not page.all("script") + page.all("i") + page.all("b") + page.all("u") + page.all("w")
    assert "<script>alert(1)</script>" in page.text
    (audio,) = page.all("audio")
    assert audio["src"].startswith("data:audio/flac;base64,")
    assert audio["aria-label"] == "called <anger>"
    assert page.all("img")[0]["alt"] == 'What "it" shows'


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
    ],
)  # fmt: skip
def test_commands_are_marked_and_prose_is_not(sentence, command):
    marked = str(mark_commands(sentence))
    found = re.findall("<code>(.*?)</code>", marked)
    expected = [sentence.partition(": ")[2]] if command is None else [command] if command else []
    assert found == expected


def test_a_figure_of_too_many_marks_is_embedded_as_pixels():
    few, many = page_figure(drawing()), page_figure(drawing(LARGEST_SVG // 60))
    assert few.source.startswith("data:image/svg+xml")
    assert many.source.startswith("data:image/png")
    assert (few.width, few.height) == (384, 288)


def test_a_long_table_is_cut_and_says_so():
    data = pd.DataFrame({"name": ["x" * 40] * (FULL_ROWS + 1), "score": ["0.5"] * (FULL_ROWS + 1)})
    table = NamedTable("long", "caption", data, data)
    found = page_table(table)
    assert len(found.rows) == FULL_ROWS
    assert [column.kind for column in found.columns] == ["text", "number"]
    page = Page(render("t", "s", [], None, [], [Section("a", "A", tables=(table,))]))
    assert "Only the first 60 rows are shown of: long" in page.text
