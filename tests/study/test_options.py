"""Tests of the study's options: written, read back, and changed when a study is resumed."""

import json
import math
from pathlib import Path

import pytest

from ser.corpora.classes import FORMER
from ser.splits import FORMER_AUTO
from ser.utils.errors import UserError
from study.options import StudyOptions


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "studies" / "n").mkdir(parents=True)


def test_options_come_back_as_they_were_written(tmp_path):
    options = StudyOptions(name="n", storage_path=tmp_path, trials=7, settings=("a.b=1",), corpus_root=tmp_path)
    options.write("c0ffee")
    options.check_unchanged("c0ffee")
    with pytest.raises(UserError, match="has changed since study 'n' began"):
        options.check_unchanged("decaf")
    back = StudyOptions(name="n", storage_path=tmp_path, resume=True, address="auto").resumed()
    assert (back.trials, back.settings, back.corpus_root) == (7, ("a.b=1",), tmp_path)
    assert (back.resume, back.address) == (True, "auto")


def test_resuming_with_another_value_is_refused(tmp_path):
    StudyOptions(name="n", storage_path=tmp_path, trials=7).write("")
    StudyOptions(name="n", storage_path=tmp_path, trials=7, resume=True).resumed()
    with pytest.raises(UserError, match=r"differ from them: --epochs, --set\."):
        StudyOptions(name="n", storage_path=tmp_path, epochs=8, settings=("a.b=1",), resume=True).resumed()


def test_resuming_may_add_trials_and_say_where_and_how_long_they_run(tmp_path):
    StudyOptions(name="n", storage_path=tmp_path, trials=7, max_concurrent=3).write("")
    now = StudyOptions(
        name="n", storage_path=tmp_path, trials=9, cpus_per_trial=2, time_budget="90m", resume=True
    ).resumed()
    assert (now.trials, now.cpus_per_trial, now.max_concurrent, now.seconds) == (9, 2, 3, 5400)
    assert StudyOptions(name="n", storage_path=tmp_path, resume=True).resumed().seconds == math.inf
    with pytest.raises(UserError, match=r"has 7 trials .* --trials 5 is fewer"):
        StudyOptions(name="n", storage_path=tmp_path, trials=5, resume=True).resumed()


def test_a_resumed_study_finds_files_that_were_moved(tmp_path):
    """Name the new places of corpus, list and space file; a space of another name is another space."""
    StudyOptions(
        name="n", storage_path=tmp_path, space=("/old/mine.py", "elr"), corpus_root=Path("/old"), exclude=Path("/old/x")
    ).write("", spaces={"mine": {}, "elr": {}})
    moved = {"space": ("/new/mine.py", "elr"), "corpus_root": Path("/new"), "exclude": Path("/new/x")}
    now = StudyOptions(name="n", storage_path=tmp_path, resume=True, **moved).resumed()
    assert {key: getattr(now, key) for key in moved} == moved
    for other in (("/new/other.py", "elr"), ("elr", "/new/mine.py"), ("/new/mine.py",)):
        with pytest.raises(UserError, match=r"differ from them: --space\."):
            StudyOptions(name="n", storage_path=tmp_path, resume=True, space=other).resumed()
    StudyOptions(name="n", storage_path=tmp_path, space=("/old/mine.py",)).write("")  # its content is not on record
    with pytest.raises(UserError, match=r"differ from them: --space\."):
        StudyOptions(name="n", storage_path=tmp_path, resume=True, space=("/new/mine.py",)).resumed()


def test_other_audio_under_the_same_names_is_an_error(tmp_path):
    options = StudyOptions(name="n", storage_path=tmp_path)
    options.check_audio("c0ffee")
    options.write("", audio_digest="c0ffee")
    options.check_audio("c0ffee")
    with pytest.raises(UserError, match="the same names have other samples"):
        options.check_audio("decaf")
    options.write("")  # a study of an earlier version
    options.check_audio("decaf")


@pytest.mark.parametrize(
    ("text", "seconds"), [("45", 45), ("45s", 45), ("1.5h", 5400), ("2d", 172800), (" 90 m ", 5400)]
)
def test_time_budgets_have_units(text, seconds):
    assert StudyOptions(time_budget=text).seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "5 weeks", "1h30m"])
def test_an_invalid_time_budget_is_reported(text):
    with pytest.raises(UserError, match="--time-budget"):
        StudyOptions(time_budget=text)


def test_a_password_is_not_written_down(tmp_path):
    StudyOptions(name="n", storage_path=tmp_path, tracking_uri="http://me:s3cret@host").write("")
    assert "s3cret" not in (tmp_path / "studies" / "n" / "study.json").read_text()


def test_a_study_begun_before_classes_could_be_chosen_has_all_of_them(tmp_path):
    StudyOptions(name="n", storage_path=tmp_path, corpus="ravdess").write("")
    begun = StudyOptions(name="n", storage_path=tmp_path, resume=True).resumed()
    assert (begun.classes, begun.split_by) == (None, "auto")
    record = tmp_path / "studies" / "n" / "study.json"
    saved = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in saved.items() if key != "classes"}))
    assert StudyOptions(name="n", storage_path=tmp_path, resume=True).resumed().classes == FORMER
    assert StudyOptions(name="n", storage_path=tmp_path, resume=True, classes="all").resumed().classes == FORMER
    with pytest.raises(UserError, match=r"differ from them: --classes\."):
        StudyOptions(name="n", storage_path=tmp_path, resume=True, classes="happy,sad").resumed()


def test_a_study_of_version_0_1_keeps_its_folds(tmp_path):
    StudyOptions(name="n", storage_path=tmp_path, corpus="ravdess").write("")
    record = tmp_path / "studies" / "n" / "study.json"
    saved = {key: value for key, value in json.loads(record.read_text()).items() if key != "classes"}
    record.write_text(json.dumps(saved))
    begun = StudyOptions(name="n", storage_path=tmp_path, resume=True).resumed()
    assert begun.split_by == FORMER_AUTO
    begun.write("")  # as a resumed study does
    assert StudyOptions(name="n", storage_path=tmp_path, resume=True).resumed().split_by == FORMER_AUTO
    record.write_text(json.dumps({**saved, "split_by": "speaker"}))
    assert StudyOptions(name="n", storage_path=tmp_path, resume=True).resumed().split_by == "speaker"
    with pytest.raises(UserError, match=r"differ from them: --split-by\."):
        StudyOptions(name="n", storage_path=tmp_path, resume=True, split_by="session").resumed()
