"""The report in a real browser: it fits, follows light and dark paper, sorts, filters, and asks for nothing.

SCREENSHOTS=FOLDER writes pictures of the first screen there.
"""

import base64
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from analysis.common.records import open_records
from analysis.common.section import NamedFigure, NamedSound, NamedTable, Section
from analysis.options import RecordsOptions, ReportOptions
from analysis.page.build import make_sections, render_report
from analysis.page.html.render import PLAIN_ROWS
from analysis.page.opening import make_opening
from study.environment import CODE_ROOT as ROOT
from tests.helpers.archived_records import unpack
from tests.helpers.browser import PHONE, Browser, chromium
from tests.helpers.made_records import make_store

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")
WIDTHS = (1400, 1280, PHONE)
SCREEN = 900
LONG = PLAIN_ROWS + 100
INK = {False: (27, 27, 27), True: (232, 232, 230)}
PAPER = {False: "rgb(255, 255, 255)", True: "rgb(22, 24, 27)"}


@pytest.fixture(scope="module")
def browser():
    with Browser(chromium()) as found:
        yield found


def heard():
    """Return a section with a second of a tone."""
    tone = io.BytesIO()
    soundfile.write(tone, 0.1 * np.sin(np.arange(16000) / 10), 16000, format="FLAC")
    return Section("heard", "To be heard", sounds=(NamedSound("tone", "a tone", tone.getvalue()),))


def hovered():
    """Return a section with a black, a white, a grey and a coloured mark; one shows a value on hover."""
    figure, axes = plt.subplots(figsize=(12, 3))
    for place, colour in enumerate(("black", "white", "#666666", "#0072B2")):
        axes.plot(place, place, "o", color=colour, gid=f"mark-{place}")
    plt.close(figure)
    drawn = NamedFigure(
        "marks", "Marks", "Four marks", figure, hover={f"mark-{place}": f"a & b: {place}" for place in range(4)}
    )
    dots = Section("dots", "Many", figures=(replace(drawn, name="dots", figure=many(), hover={}),))
    return Section("hovered", "To be hovered over", figures=(drawn,)), dots


def many():
    """Return a figure of too many marks for an SVG."""
    figure, axes = plt.subplots()
    axes.plot(np.random.default_rng(0).random(10_000), "o")
    plt.close(figure)
    return figure


def listed():
    """Return a section with a table of more rows than are shown without the script, and a wide one."""
    rows = pd.DataFrame({"score": np.arange(LONG) % 97 - 40, "fold": np.arange(LONG)})
    text = pd.DataFrame(
        {
            "method": [f"method {fold % 3}" for fold in rows["fold"]],
            "fold": rows["fold"].astype(str),
            "score": [f"{score:+d}".replace("-", "−") if score else "–" for score in rows["score"]],
        }
    )
    wide = pd.DataFrame({f"a long heading {n}": ["0.123 ± 0.045"] for n in range(14)})
    wide.insert(0, "method", "cross entropy")
    tables = (
        NamedTable("rows", "Many rows", rows, text, filters=("method",)),
        NamedTable("matrix", "Many columns", wide, wide),
        NamedTable("cards", "Many columns and two keys", wide, wide, keys=2),
        NamedTable("nothing", "No rows", wide.head(0), wide.head(0)),
    )
    return Section("listed", "To be sorted", tables=tables), Section("lacking", "Lacking", missing=("Nobody did it.",))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of both stages, with sections of every kind."""
    matplotlib.use("agg")
    store = make_store(tmp_path_factory.mktemp("store"))
    spaces = ("cross_entropy", "proselflc")
    store.search({(space, "noisy-B"): [0.3, 0.6] for space in spaces})
    store.confirm({(space, "noisy-B", "search-1"): 0.6 for space in spaces}, seeds=(1,))
    records = open_records(RecordsOptions(store.uri))
    options = ReportOptions(reference="cross_entropy", audio="never")
    sections = [*make_sections(records, options), heard(), *hovered(), *listed()]
    text = render_report(records, make_opening(records, "cross_entropy"), sections)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def colour(browser, selector, of="fill"):
    """Return the colour of an element as (red, green, blue), however the browser writes it."""
    return tuple(
        browser.evaluate(
            f"""(() => {{ const context = document.createElement("canvas").getContext("2d");
            context.fillStyle = getComputedStyle(document.querySelector({json.dumps(selector)})).{of};
            context.fillRect(0, 0, 1, 1); return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3); }})()"""
        )
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_opens_without_a_complaint_and_fits(browser, page, width, dark):
    browser.open(page.as_uri(), width=width, dark=dark)
    assert browser.errors() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.evaluate("document.querySelectorAll('svg[role=img]').length") >= 3
    assert browser.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[dark]
    empty = "[...document.querySelectorAll('main section')].filter(section => section.children.length < 2).length"
    assert browser.evaluate(empty) == 0
    assert (
        browser.evaluate(
            "[...document.querySelectorAll('table')].filter(table => !table.tBodies[0].rows.length).length"
        )
        == 0
    )


@pytest.fixture(scope="module")
def real_page(tmp_path_factory):
    """The report of real records, with the sections that its first screen needs."""
    matplotlib.use("agg")
    folder = unpack(ROOT / "tests" / "fixtures" / "ravdess.tar.xz", tmp_path_factory.mktemp("ravdess"), "/study")
    records = open_records(RecordsOptions(f"sqlite:///{folder}/mlflow.db", "ravdess"))
    sections = make_sections(records, ReportOptions(), ("significance", "dose_response"))
    path = folder / "report.html"
    path.write_text(render_report(records, make_opening(records), sections), encoding="utf-8")
    return path


def save_picture(browser, path, width):
    """Write the first screen, without what follows its figure, as a PNG of few colours."""
    below = browser.evaluate("document.querySelector('.evidence').getBoundingClientRect().bottom")
    clip = {"x": 0, "y": 0, "width": width, "height": min(SCREEN, below + 16), "scale": 1}
    shot = browser.call("Page.captureScreenshot", format="png", clip=clip)
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_first_screen_has_the_advice_the_primary_comparison_and_the_figure(browser, real_page, dark):
    bottom = "document.querySelector('{}').getBoundingClientRect().bottom"
    for width, last in ((1400, "#figure-opening-dose_response svg"), (PHONE, ".primary")):
        browser.open(real_page.as_uri(), width=width, dark=dark)
        assert browser.evaluate(bottom.format(".advice")) < browser.evaluate(bottom.format(".primary"))
        assert browser.evaluate(bottom.format(last)) <= SCREEN
        if folder := os.environ.get("SCREENSHOTS"):
            shade = "dark" if dark else "light"
            save_picture(browser, Path(folder) / f"report-{width}-{shade}.png", width)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_table_is_cut_and_its_key_columns_stay(browser, page, width):
    browser.open(page.as_uri(), width=width)
    wide = """[...document.querySelectorAll(".table .scroll")].filter(box => box.scrollWidth > box.clientWidth + 1).map(
      box => { box.scrollLeft = 1e6; const left = box.getBoundingClientRect().left;
        const key = box.querySelector("tbody .key").getBoundingClientRect();
        return [box.getAttribute("aria-labelledby"), Math.abs(key.left - left) < 2]; })"""
    found = dict(browser.evaluate(wide))
    if width > PHONE:
        assert set(found) <= {"table-listed-matrix", "table-listed-cards"}  # these are made to be too wide
    assert "table-listed-matrix" in found
    assert all(found.values())
    cards = browser.evaluate("getComputedStyle(document.querySelector('.records tbody tr')).display")
    assert cards == ("grid" if width == PHONE else "table-row")


def mixed(share, dark):
    """Return the mixture of ink and paper."""
    paper = [int(value) for value in PAPER[dark].strip("rgb()").split(",")]
    return [round(share * ink + (1 - share) * one) for ink, one in zip(INK[dark], paper, strict=True)]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_figures_follow_light_and_dark_paper(browser, page, dark):
    browser.open(page.as_uri(), dark=dark)
    assert colour(browser, "#figure-hovered-marks text") == INK[dark]
    black, white, grey, blue = (colour(browser, f"#figure-hovered-marks-mark-{place} use") for place in range(4))
    assert list(black) == mixed(1, dark)
    assert list(white) == mixed(0, dark)
    assert grey == pytest.approx(mixed(0.6, dark), abs=1)
    assert blue == (0, 114, 178)
    pixels = browser.evaluate("getComputedStyle(document.querySelector('#figure-dots-dots img')).filter")
    assert ("invert" in pixels) == dark


def test_a_mark_shows_its_value_on_hover(browser, page):
    browser.open(page.as_uri())
    title = "document.querySelector('#figure-hovered-marks-mark-3 > title')"
    assert browser.evaluate(f"{title}.textContent") == "a & b: 3"
    assert browser.evaluate(f"{title}.parentElement.querySelectorAll('use').length") == 1


def cells(browser, column):
    return browser.evaluate(
        f"[...document.querySelectorAll('#listed tbody')][0].querySelectorAll('tr > :nth-child({column})').values()"
        ".map(cell => cell.textContent).toArray()"
    )


def press(browser, key):
    """Press a key on what has the focus."""
    code = {"Tab": 9, "Enter": 13}[key]
    text = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


def test_a_table_sorts_by_keyboard_and_filters(browser, page):
    browser.open(page.as_uri())
    figure = "document.querySelector('#listed .browsed')"
    output = f"{figure}.querySelector('output').value"
    assert browser.evaluate(output) == f"20 of {LONG} rows"
    browser.evaluate(f"{figure}.querySelectorAll('th button')[2].focus()")
    press(browser, "Enter")
    assert browser.evaluate(f"{figure}.querySelector('th[aria-sort]').textContent") == "score"
    assert cells(browser, 3)[:5] == ["−40"] * 4 + ["−39"]  # as numbers, of all rows
    press(browser, "Enter")
    assert browser.evaluate(f"{figure}.querySelector('[aria-sort]').ariaSort") == "descending"
    assert cells(browser, 3)[:4] == ["+56"] * 3 + ["+55"]  # what is missing comes last
    browser.evaluate(f"{figure}.querySelector('.more').click()")
    assert browser.evaluate(output) == f"120 of {LONG} rows"
    choose = f"(() => {{ const one = {figure}.querySelector('select'); one.value = 'method 2'; "
    browser.evaluate(choose + "one.dispatchEvent(new Event('input', { bubbles: true })); })()")
    assert browser.evaluate(output) == f"20 of {LONG // 3} found among {LONG} rows"
    search = f"(() => {{ const one = {figure}.querySelector('input'); one.value = 'METHOD 29'; "
    browser.evaluate(search + "one.dispatchEvent(new Event('input', { bubbles: true })); })()")
    assert set(cells(browser, 1)) == {"method 2"}
    assert all("9" in fold + score for fold, score in zip(cells(browser, 2), cells(browser, 3), strict=True))
    search = search.replace("METHOD 29", "nothing like it")
    browser.evaluate(search + "one.dispatchEvent(new Event('input', { bubbles: true })); })()")
    assert browser.evaluate(output) == f"0 found among {LONG} rows"


def test_all_trials_are_in_the_table_of_trials(browser, page):
    browser.open(page.as_uri())
    assert browser.evaluate("document.querySelector('#trials tbody').rows.length") == 6
    heads = browser.evaluate("[...document.querySelectorAll('#trials th[scope=col]')].map(head => head.innerText)")
    assert {"method", "stage", "test UAR"} <= {" ".join(head.split()) for head in heads}


def test_the_table_is_plain_without_the_script(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page.as_uri())
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.evaluate("document.querySelector('#listed tbody').rows.length") == PLAIN_ROWS
    assert browser.evaluate("document.querySelector('.filters').offsetHeight") == 0
    assert f"The first {PLAIN_ROWS} of {LONG} rows" in browser.evaluate("document.querySelector('#listed').innerText")


def test_what_is_not_shown_is_collected_at_the_end(browser, page):
    browser.open(page.as_uri())
    assert browser.evaluate("document.querySelector('#lacking')") is None
    assert browser.evaluate("[...document.querySelectorAll('main section')].at(-1).id") == "not-shown"
    assert "Nobody did it." in browser.evaluate("document.querySelector('#not-shown-lacking').innerText")


def test_the_audio_plays(browser, page):
    browser.open(page.as_uri())
    browser.evaluate("document.querySelector('audio').play()")
    assert browser.until("document.querySelector('audio').currentTime > 0")
    assert browser.evaluate("document.querySelector('audio').duration") == pytest.approx(1, abs=0.01)


CONTRAST = """(() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = colour => { context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    const part = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => {
      const one = value / 255; return one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4; });
    return .2126 * part[0] + .7152 * part[1] + .0722 * part[2]; };
  const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  const behind = element => { for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor; if (colour !== "rgba(0, 0, 0, 0)") return colour; } };
  const words = "p, li, td, th, a, figcaption, code, h1, h2, dt, dd, label, input, select, button, output";
  // The numbers of a confusion matrix stand on its cells, which have colours of their own.
  const drawn = [...document.querySelectorAll("svg text")].filter(e => !e.closest("#confusion"));
  return Math.min(
    ...[...document.querySelectorAll(words)].map(e => ratio(light(getComputedStyle(e).color), light(behind(e)))),
    ...drawn.map(e => ratio(light(getComputedStyle(e).fill), light(behind(e)))));
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast_also_in_figures(browser, page, dark):
    browser.open(page.as_uri(), dark=dark)
    assert browser.evaluate(CONTRAST) >= 4.5  # WCAG 2, level AA


def test_the_keyboard_reaches_everything(browser, page):
    scrolling = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
    scrolling += "getComputedStyle(e).overflowX === 'auto' && e.tabIndex !== 0).length"
    browser.open(page.as_uri(), width=PHONE)
    assert browser.evaluate(scrolling) == 0
    press(browser, "Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    broken = """[...document.querySelectorAll("a")].filter(link => link.hash
      ? !document.getElementById(decodeURIComponent(link.hash.slice(1))) : !/^recommended-.*yaml$/.test(
        link.getAttribute("href"))).map(link => link.href)"""
    assert browser.evaluate(broken) == []


def test_the_print_has_no_audio_and_no_navigation(browser, page):
    browser.open(page.as_uri(), dark=True, media="print")
    for hidden in ("nav", "audio", ".filters"):
        assert browser.evaluate(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[False]
    assert colour(browser, "#figure-hovered-marks text") == (0, 0, 0)
