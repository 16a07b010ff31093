"""MLflow's pages in a real browser."""

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

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
