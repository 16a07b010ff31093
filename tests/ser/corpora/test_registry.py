"""Corpora by name and by the import path of a loader, and their options."""

from pathlib import Path

import pytest

from ser.corpora import check_name, load, needs_root, parse_options
from ser.utils.errors import DataErrors, UserError

MODULE = """
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ser.corpora import Corpus, LoaderResult

NOT_A_LOADER = 3
ROWS = {"utterance_id": ["a", "b", "c", "e"], "speaker": ["s", "t", "u", "u"], "label": ["x", "y", "x", "y"]}


def load_mine(root: Path, *, channel: Literal["near", "far"] = "near", take="1") -> LoaderResult:
    rows = pd.DataFrame(ROWS).assign(path=[f"{root}/{channel}{take}/{name}.wav" for name in ROWS["utterance_id"]])
    return LoaderResult("mine", f"corpus 'mine' at {root}", rows, ("x", "y"), root, [("d.txt", "is half written")])


def load_generated() -> Corpus:
    return Corpus("generated", pd.DataFrame(ROWS), ("x", "y"), synthesize=lambda name: np.zeros(1600, np.float32))


def load_nothing(root):
    return {}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package on the import path, as a user would write it."""
    name = f"corpora_of_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "speech.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}.speech"


def test_a_loader_is_named_by_its_import_path(package: str, tmp_path: Path) -> None:
    exclude = tmp_path / "exclude.txt"
    exclude.write_text("d.txt: is half written\nb\n", encoding="utf-8")
    corpus = load(f"{package}.load_mine", tmp_path, exclude, {"channel": "far", "take": "2"})
    assert corpus.name == "mine"
    assert corpus.relative_paths == ["far2/a.wav", "far2/c.wav", "far2/e.wav"]
    assert corpus.excluded == ("b", "d.txt")
    with pytest.raises(DataErrors, match=r"(?s)corpus 'mine' at .*1 error:.*d\.txt: is half written.*--exclude"):
        load(f"{package}.load_mine", tmp_path)


def test_a_loader_without_a_root_generates_a_corpus(package: str, tmp_path: Path) -> None:
    assert needs_root(f"{package}.load_mine")
    assert not needs_root(f"{package}.load_generated")
    assert len(load(f"{package}.load_generated")) == 4
    with pytest.raises(UserError, match="takes no root"):
        load(f"{package}.load_generated", tmp_path)


@pytest.mark.parametrize(
    ("attribute", "options", "message"),
    [
        ("load_yours", {}, r"Did you mean .*'load_mine'"),
        ("NOT_A_LOADER", {}, "must be a class or a function, got 3"),
        ("load_nothing", {}, r"must return a ser\.corpora\.LoaderResult, got <class 'dict'>"),
        ("load_nothing", {"channel": "far"}, "has no options"),
        ("load_mine", {"chanel": "far"}, "Did you mean 'channel'"),
        ("load_mine", {"channel": "fat"}, "Did you mean 'far'"),
    ],
)
def test_mistakes_in_a_path_or_an_option_are_reported(
    package: str, tmp_path: Path, attribute: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(f"{package}.{attribute}", tmp_path, options=options)


def test_a_name_is_checked_before_anything_is_read(package: str) -> None:
    check_name("ravdess")
    check_name(f"{package}.load_mine")
    with pytest.raises(UserError, match="Did you mean 'ravdess'"):
        check_name("ravdes")
    with pytest.raises(UserError, match=r"module 'no_such_package\.speech' cannot be imported"):
        check_name("no_such_package.speech.load_mine")


@pytest.mark.parametrize(
    ("name", "root", "message"),
    [
        ("ravdes", "/", "Did you mean 'ravdess'"),
        ("ravdess", None, "--corpus-root"),
        ("ravdess", "~no_such_user/x", "~no_such_user/x"),
        ("table", "no/such/file.csv", "does not exist"),
        ("synthetic", ".", "takes no root"),
    ],
)
def test_a_wrong_name_or_root_is_reported(name: str, root: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(name, root)


@pytest.mark.parametrize(("words", "message"), [(["votes"], "'votes' is not KEY=VALUE"), (["a=1", "a=2"], "'a' twice")])
def test_options_that_cannot_be_parsed_are_reported(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_options(words)
