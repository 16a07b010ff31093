"""The report and MLflow's pages in a real browser."""

import io
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import matplotlib
import numpy as np
import pytest
import soundfile

from analysis.common.records import RecordsOptions, open_records
from analysis.common.section import NamedSound, Section
from analysis.page.answer import answer
from analysis.page.build import ReportOptions, make_sections, render_report
from study.tracking.opening import open_client
from tests.helpers.browser import PHONE, Browser, chromium
from tests.helpers.made_records import make_store

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")
WIDTHS = (1280, PHONE)


@pytest.fixture(scope="module")
def browser():
    with Browser(chromium()) as found:
        yield found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = make_store(tmp_path_factory.mktemp("store"))
    spaces = ("cross_entropy", "proselflc")
    made.search({(space, "noisy-B"): [0.3, 0.6] for space in spaces})
    made.confirm({(space, "noisy-B", "search-1"): 0.6 for space in spaces}, seeds=(1,))
    return made.uri


@pytest.fixture(scope="module")
def page(store, tmp_path_factory):
    """The report, with a second of a tone to listen to."""
    matplotlib.use("agg")
    records = open_records(RecordsOptions(store))
    tone = io.BytesIO()
    soundfile.write(tone, 0.1 * np.sin(np.arange(16000) / 10), 16000, format="FLAC")
    heard = Section("heard", "To be heard", sounds=(NamedSound("tone", "a tone", tone.getvalue()),))
    sections = [*make_sections(records, ReportOptions(reference="cross_entropy", audio="never")), heard]
    text = render_report(records, answer(records, "cross_entropy"), sections)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_opens_without_a_complaint_and_fits(browser, page, width, dark):
    browser.open(page.as_uri(), width=width, dark=dark)
    assert browser.errors() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.evaluate("document.images.length") >= 3
    assert browser.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")


def test_the_audio_plays(browser, page):
    browser.open(page.as_uri())
    browser.evaluate("document.querySelector('audio').play()")
    assert browser.until("document.querySelector('audio').currentTime > 0")
    assert browser.evaluate("document.querySelector('audio').duration") == pytest.approx(1, abs=0.01)


def test_text_has_contrast_and_the_keyboard_reaches_everything(browser, page):
    contrast = """(() => {
      const light = colour => { const part = colour.match(/\\d+(\\.\\d+)?/g).slice(0, 3).map(value => {
        const one = value / 255; return one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4; });
        return .2126 * part[0] + .7152 * part[1] + .0722 * part[2]; };
      const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
      const behind = element => { for (let e = element; e; e = e.parentElement) {
        const colour = getComputedStyle(e).backgroundColor; if (colour !== 'rgba(0, 0, 0, 0)') return colour; } };
      return Math.min(...[...document.querySelectorAll('p, li, td, th, a, figcaption, code, h1, h2')].map(
        e => ratio(light(getComputedStyle(e).color), light(behind(e)))));
    })()"""
    for dark in (False, True):
        browser.open(page.as_uri(), dark=dark)
        assert browser.evaluate(contrast) >= 4.5  # WCAG 2, level AA
    scrolling = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
    scrolling += "getComputedStyle(e).overflowX === 'auto' && e.tabIndex !== 0).length"
    browser.open(page.as_uri(), width=PHONE)
    assert browser.evaluate(scrolling) == 0
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.evaluate("document.activeElement.className") == "skip"


def test_the_print_has_no_audio_and_no_navigation(browser, page):
    browser.open(page.as_uri(), dark=True, media="print")
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.fixture(scope="module")
def mlflow_page(store):
    """An MLflow server on the store: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        store,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    try:
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/health", timeout=5)
                break
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_mlflow_shows_parents_and_filters(browser, mlflow_page, store):
    experiment = open_client(store).get_experiment_by_name("made").experiment_id
    browser.open(f"{mlflow_page}/#/experiments/{experiment}/runs?searchFilter=tags.kind%20%3D%20%27parent%27")
    assert browser.until("document.body.innerText.includes('proselflc noisy-B')")
    assert not browser.evaluate("document.body.innerText.includes('proselflc noisy-B 001')")
