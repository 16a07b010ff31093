"""MLflow's pages in a real browser, opened as users open them: by ``study/ui.py`` and the links that it prints.

SCREENSHOTS=FOLDER writes the pictures of docs/mlflow.md there.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from study.environment import CODE_ROOT as ROOT
from study.schema import KIND, MODEL, PARENT, REPORT, TRIAL, Tag
from study.tracking.summary.write import About, describe_experiment, summarise
from study.tracking.ui.links import runs_link
from tests.helpers.browser import Browser, chromium
from tests.helpers.made_records import make_store

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium"),
    pytest.mark.slow,
]

SPACES = ("cross_entropy", "proselflc")
LEVELS = ("clean", "noisy-A", "noisy-B")
FILTER = re.compile(r"``(.+?)``|`(.+?)`")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Make a store with a search, its confirmation, a failed trial, a report and a model."""
    made = make_store(tmp_path_factory.mktemp("store"))
    skills = {("cross_entropy", "clean"): 0.75, ("cross_entropy", "noisy-A"): 0.6, ("cross_entropy", "noisy-B"): 0.45}
    skills |= {("proselflc", "clean"): 0.74, ("proselflc", "noisy-A"): 0.66, ("proselflc", "noisy-B"): 0.55}
    made.search({method: (skill - 0.1, skill) for method, skill in skills.items()})
    confirmed = {(*method, "default"): skill for method, skill in skills.items()}
    made.confirm(confirmed, seeds=(1,))
    for study in ("made", "made-confirm"):
        for space, level in skills:
            key = {Tag.STUDY: study, Tag.SPACE: space, Tag.NOISE: level}
            summarise(made.client, made.experiment, key, About(f"Study `{study}` on made.", {}))
    describe_experiment(made.client, made.experiment)
    for tags in ({KIND: TRIAL, Tag.STATUS: "failed"}, {KIND: REPORT}, {KIND: MODEL}):
        made.client.set_terminated(made.client.create_run(made.experiment, tags=tags).info.run_id)
    return made


@pytest.fixture(scope="module")
def browser():
    with Browser(chromium()) as found:
        yield found


@pytest.fixture(scope="module")
def links(store, tmp_path_factory):
    """Run ``study/ui.py``: the links that it prints, the first of which it has opened in the user's browser."""
    folder = tmp_path_factory.mktemp("ui")
    opened = folder / "opened"
    (folder / "browser").write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    (folder / "browser").chmod(0o755)
    command = [sys.executable, str(ROOT / "study/ui.py"), "--tracking-uri", store.uri, "--experiment", "made"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "BROWSER": f"{folder / 'browser'} %s", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    found = []
    try:
        while len(found) < 2:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            found += re.findall(r"http://127\.0\.0\.1:\S+", line)
        process.stdout.readline()  # how to end it, which is printed after the browser was started
        deadline = time.monotonic() + 20
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert opened.read_text().strip() == found[0]
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), errors) == (0, "ended", "")


def picture(browser, name):
    if folder := os.environ.get("SCREENSHOTS"):
        # A panel for language models covers a part of the first visit.
        browser.evaluate("[...document.querySelectorAll('[aria-label=Close]')].forEach(one => one.click())")
        time.sleep(3)
        path = Path(folder) / name
        browser.screenshot(path, whole=False)
        Image.open(path).quantize(64).save(path, optimize=True)


def documented_filters():
    section = (ROOT / "docs/mlflow.md").read_text(encoding="utf-8").partition("## Filters")[2].partition("\n## ")[0]
    cells = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ") and "`" in line]
    return [(double or single).strip() for cell in cells for double, single in FILTER.findall(cell)]


def test_the_first_link_shows_bars_by_noise_level_without_a_click(browser, links):
    browser.open(links[0], width=1400)
    bars = "document.querySelectorAll('.js-plotly-plot .bars path').length"
    assert browser.until(f"{bars} >= {len(SPACES) * len(LEVELS)} && {bars}")
    text = browser.evaluate("document.body.innerText")
    assert "By noise level" in text
    assert "Error loading shared view" not in text
    for level in LEVELS:
        assert f"{level} proselflc" in text
    picture(browser, "mlflow-levels.png")


def test_the_table_has_the_columns_worth_having_first_and_the_chart_is_one_click_away(browser, links):
    browser.open("about:blank")
    browser.open(links[1], width=1400)
    browser.until("document.body.innerText.includes('noisy-A proselflc')")
    heads = browser.until(
        "[...document.querySelectorAll('.ag-header-cell')]"
        ".filter(one => one.getAttribute('col-id').match(/^tags|^metrics/))"
        ".sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left)"
        ".map(one => one.getAttribute('col-id')).slice(0, 3)"
    )
    assert heads == ["tags.`noise`", "tags.`space`", "tags.`study`"]
    picture(browser, "mlflow-table.png")
    browser.evaluate("document.querySelector('[data-testid=experiment-runs-mode-switch-CHART],[value=CHART]').click()")
    assert browser.until("document.querySelectorAll('.js-plotly-plot .bars path').length > 3")


def test_a_parent_has_scores_a_description_and_a_figure(browser, links, store):
    query = f"tags.{KIND} = '{PARENT}' and tags.space = 'proselflc' and tags.noise = 'noisy-B' and tags.study = 'made'"
    (parent,) = store.client.search_runs([store.experiment], query)
    base = links[0].partition("/#/")[0]
    browser.open("about:blank")
    browser.open(
        f"{base}/#/experiments/{store.experiment}/runs/{parent.info.run_id}?workflowType=machine_learning", width=1400
    )
    assert browser.until("document.body.innerText.includes('val_noisy/uar')")
    assert browser.until("document.body.innerText.includes('ProSelfLC at noise level noisy-B')")
    picture(browser, "mlflow-parent.png")


def test_a_filter_of_the_documents_works_in_the_search_box(browser, links, store):
    browser.open("about:blank")
    base = links[0].partition("/#/")[0]
    browser.open(runs_link(base, store.experiment, "tags.kind = 'trial' and tags.space = 'proselflc'"), width=1400)
    assert browser.until("document.body.innerText.includes('9 matching runs')")
    assert not browser.evaluate("document.body.innerText.includes('cross_entropy')")


def test_every_filter_of_the_documents_finds_runs(store):
    filters = documented_filters()
    assert len(filters) >= 10
    for query in filters:
        found = store.client.search_runs([store.experiment], query.replace("DIGEST", "protocol"))
        assert found, query
