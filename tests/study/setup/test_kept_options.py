"""Classes and paths as a study keeps them, and what a resumed study compares them with."""

from pathlib import Path

import pytest

from ser.corpora import load
from ser.utils.errors import UserError
from study.options import StudyOptions
from study.setup.resolve import resolve, with_absolute_paths


def begun(folder: Path, classes: str) -> StudyOptions:
    options = resolve(StudyOptions(name="n", storage_path=folder / "results", corpus="synthetic", classes=classes))
    options.folder.mkdir(parents=True)
    options.write(load("synthetic", classes=options.classes).digest)
    return options


def test_a_study_keeps_the_content_of_a_file_of_classes(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text('{"ang": ["ang"], "hap": ["hap", "exc"], "sad": ["sad"]}', encoding="utf-8")
    assert begun(tmp_path, str(file)).classes == "ang,hap=hap+exc,sad"
    again = StudyOptions(
        name="n", storage_path=tmp_path / "results", corpus="synthetic", classes=str(file), resume=True
    )
    assert resolve(again).classes == "ang,hap=hap+exc,sad"  # the same file
    file.write_text('{"ang": ["ang"], "sad": ["sad"]}', encoding="utf-8")
    with pytest.raises(UserError, match=r"differ from them: --classes\."):
        resolve(again)
    file.unlink()
    assert resolve(StudyOptions(name="n", storage_path=tmp_path / "results", resume=True)).classes == (
        "ang,hap=hap+exc,sad"
    )


def test_names_that_need_it_stay_json_in_a_study(tmp_path: Path) -> None:
    text = '{"low, calm": ["sad", "neu"], "a+b": ["ang"]}'
    assert begun(tmp_path, text).classes == text


def test_a_study_is_not_resumed_with_other_classes_of_the_data(tmp_path: Path) -> None:
    path, exclude = tmp_path / "t.csv", tmp_path / "exclude.txt"
    rows = [f"{number}.wav,s{number % 2},{label}" for number, label in enumerate(("low", "mid", "high") * 2)]
    path.write_text("\n".join(["path,speaker,label", *rows]), encoding="utf-8")
    exclude.touch()
    options = StudyOptions(name="n", storage_path=tmp_path / "results", corpus="table", corpus_root=path)
    options.folder.mkdir(parents=True)
    options.write(load("table", path, exclude).digest)
    exclude.write_text("1\n4\n", encoding="utf-8")  # all of the class mid
    rest = load("table", path, exclude)
    assert rest.classes == ("high", "low")
    with pytest.raises(UserError, match="has changed since study 'n' began"):
        options.check_unchanged(rest.digest)


def test_paths_in_the_options_of_a_corpus_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("names=names.csv", "audio=../audio", "columns=label=emotion")
    kept = with_absolute_paths(StudyOptions(corpus_options=given)).corpus_options
    assert kept == (f"names={tmp_path}/names.csv", f"audio={tmp_path}/../audio", "columns=label=emotion")
