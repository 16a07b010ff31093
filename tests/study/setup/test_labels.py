"""Kinds of training labels as a factor of a study: each space is searched with each kind, under a name of its own."""

import json
from dataclasses import replace

import pytest

from ser.utils.errors import UserError
from study.options import ConfirmOptions, StudyOptions
from study.schema import method_name, space_and_labels
from study.setup.prepare import load_spaces
from study.setup.resolve import resolve
from study.setup.spaces import load_space

ASKED = StudyOptions(space=("elr", "cross_entropy"), noise=("clean",), labels=("consensus", "dawid_skene", "soft"))


def test_each_space_is_searched_with_each_kind_of_labels():
    spaces = load_spaces(ASKED)
    assert [(space.name, space.own_name, space.labels) for space in spaces] == [
        ("elr", "elr", "consensus"), ("cross_entropy", "cross_entropy", "consensus"),
        ("elr+dawid_skene", "elr", "dawid_skene"), ("cross_entropy+dawid_skene", "cross_entropy", "dawid_skene"),
        ("elr+soft", "elr", "soft"), ("cross_entropy+soft", "cross_entropy", "soft"),
    ]  # fmt: skip
    assert len({space.digest for space in spaces}) == 2  # labels are no part of what is searched


def test_without_labels_a_study_is_as_before():
    (space,) = load_spaces(StudyOptions(space=("elr",)))
    assert space == load_space("elr", {})


@pytest.mark.parametrize("labels", ["consensus", "plurality", "dawid_skene", "soft"])
@pytest.mark.parametrize("space", ["elr", "my+space", "soft", "a+b+c"])
def test_names_of_methods_read_back(space, labels):
    assert space_and_labels(method_name(space, labels)) == (space, labels)


@pytest.mark.parametrize("noise", [("clean", "noisy-A"), ("given",), ("symmetric:0.2",)])
@pytest.mark.parametrize("labels", [("soft",), ("consensus", "plurality")])
def test_labels_from_votes_go_with_the_clean_level_alone(noise, labels):
    with pytest.raises(UserError, match=f"--labels {labels[-1]}: .* noise level clean only, not with '{noise[-1]}'"):
        resolve(StudyOptions(noise=noise, labels=labels, name="n", tracking_uri="sqlite:///x.db"))


def test_labels_are_named_once_and_at_least_once():
    with pytest.raises(UserError, match="--labels names one of soft, soft twice"):
        replace(ASKED, labels=("soft", "soft"))
    with pytest.raises(UserError, match="--labels needs at least one name"):
        replace(ASKED, labels=())


@pytest.mark.parametrize("space", ["soft_labels", "classical"])
def test_a_space_that_cannot_train_on_a_kind_is_refused_before_the_start(space):
    with pytest.raises(UserError, match=f"space '{space}': --labels soft: "):
        load_spaces(replace(ASKED, space=(space,), labels=("soft",)))


def test_spaces_of_several_searches_are_loaded_with_their_own_labels_alone():
    both = replace(ASKED, space=("soft_labels", "cross_entropy"), labels=("soft", "consensus"))
    found = load_spaces(both, methods={"soft_labels", "cross_entropy+soft"})
    assert [space.name for space in found] == ["cross_entropy+soft", "soft_labels"]


def test_a_file_that_is_named_like_another_space_with_labels_is_refused(tmp_path):
    path = tmp_path / "elr+soft.py"
    path.write_text("'''Mine, 2026.'''\nSPACE = {}\nPOINTS = []\n")
    with pytest.raises(UserError, match=r"'elr\+soft' is that of 'elr' with other labels. Rename the file"):
        load_space(str(path), {})


def test_a_resumed_study_keeps_its_labels_and_those_of_before_had_the_consensus(tmp_path):
    begun = replace(ASKED, name="mine", storage_path=tmp_path)
    begun.folder.mkdir(parents=True)
    begun.write("digest", spaces={space.own_name: space.record for space in load_spaces(ASKED)})
    again = StudyOptions(name="mine", storage_path=tmp_path, resume=True)
    assert again.resumed().labels == ASKED.labels
    assert [space.name for space in load_spaces(again.resumed())] == [space.name for space in load_spaces(ASKED)]
    with pytest.raises(UserError, match=r"differ from them: --labels\."):
        replace(again, labels=("soft",)).resumed()
    record = json.loads((begun.folder / "study.json").read_text())
    del record["labels"]
    (begun.folder / "study.json").write_text(json.dumps(record))
    assert again.resumed().labels == ("consensus",)


def test_the_confirmation_of_a_search_has_its_labels():
    with pytest.raises(UserError, match="--labels: a confirmation of a search has the search's own options"):
        ConfirmOptions(labels=("soft",))
    assert ConfirmOptions(space=("elr",), noise=("clean",), labels=("soft",)).labels == ("soft",)
