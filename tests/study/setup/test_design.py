"""The design of a confirmation: what is declared, kept on disk, and followed."""

import json
from dataclasses import replace

import pytest

from ser.corpora import load
from ser.splits import speaker_fold
from ser.utils.errors import UserError
from study.schema import DESIGN
from study.search.repeating import design_words
from study.setup.candidates import Candidate
from study.setup.design import Design, fold_speakers, primary_comparison, training_seed, unit_of

LEVELS = ("clean", "noisy-A", "noisy-B")
METHODS = ("cross_entropy", "elr", "proselflc")


@pytest.fixture(scope="module")
def corpus():
    return load("synthetic")


@pytest.fixture
def design(corpus):
    speakers = sorted(set(corpus.table["speaker"]))
    folds = [
        speaker_fold(corpus, place + 1, 10, "speaker", [name], [speakers[place - 1]])
        for place, name in enumerate(speakers)
    ]
    candidates = tuple(
        Candidate(method, level, name, "", {"loss.name": method})
        for level in LEVELS
        for method in METHODS
        for name in ("search-1", "default")
    )
    return Design(
        "sure", "made", "synthetic", corpus.digest, corpus.classes, unit_of(folds), fold_speakers(corpus, folds),
        (1, 2), LEVELS, METHODS, candidates, "cross_entropy", {"level": "noisy-B", "method": "proselflc"},
        ("cross_entropy",), "noisy", "p", {"train": ["Ses01F", "Ses01M"], "validation": ["Ses02F"]},
    )  # fmt: skip


def test_what_is_read_is_what_was_written(design, tmp_path):
    design.write(tmp_path)
    read = Design.read(tmp_path)
    assert read == replace(design, searched=read.searched, candidates=read.candidates, primary=read.primary)
    assert read.digest == design.digest
    assert json.loads((tmp_path / DESIGN).read_text())["digest"] == design.digest


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [1, 2, 3]}, {"levels": ["noisy-B"]}, {"methods": ["elr"]}, {"reference": "elr"},
        {"primary": {"level": "clean", "method": "elr"}}, {"folds": []}, {"select_on": "clean"},
    ],
)  # fmt: skip
def test_a_design_that_was_changed_afterwards_is_refused(design, tmp_path, change):
    design.write(tmp_path)
    path = tmp_path / DESIGN
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="was changed after the confirmation had begun"):
        Design.read(tmp_path)


def test_a_confirmation_of_version_0_1_is_not_continued_with_other_folds(tmp_path):
    (tmp_path / "candidates.json").write_text("{}")
    with pytest.raises(UserError, match=r"begun by version 0\.1"):
        Design.read(tmp_path)


def test_no_confirmation_is_said_to_be_missing(tmp_path):
    with pytest.raises(UserError, match="there is no confirmation"):
        Design.read(tmp_path)


def test_the_two_cells_of_the_primary_comparison_are_trained_first(design):
    assert design.cells[:2] == [("noisy-B", "cross_entropy"), ("noisy-B", "proselflc")]
    assert sorted(design.cells) == sorted((level, method) for level in LEVELS for method in METHODS)
    assert replace(design, primary=None).cells[0] == ("clean", "cross_entropy")


def test_a_pilot_trains_the_reference_alone_with_seeds_that_no_result_has(design):
    one = next(one for one in design.candidates if (one.space, one.noise) == ("cross_entropy", "noisy-B"))
    pilot = replace(design, candidates=(one,), pilot=True)
    assert pilot.cells == [("noisy-B", "cross_entropy")]
    assert pilot.stage == "pilot"
    assert len(pilot.trained_folds) == 1
    assert len(pilot.trained_seeds) == 4
    assert not set(pilot.trained_seeds) & set(range(0, 1000))


def test_each_fold_and_seed_has_a_seed_of_its_own():
    seeds = {training_seed(seed, fold) for seed in range(1, 9) for fold in range(1, 25)}
    assert len(seeds) == 8 * 24
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_result_says_what_the_search_did_with_its_speakers(design):
    exposure = {
        fold.test[0]: design.exposure(Candidate("elr", "clean", "search-1", "run", {}), fold.number)
        for fold in design.folds
    }
    assert exposure["Ses01F"] == "trained_by"
    assert exposure["Ses02F"] == "chosen_by"
    assert exposure["Ses02M"] == "unseen"
    default = Candidate("elr", "clean", "default", "run", {})
    assert {design.exposure(default, fold.number) for fold in design.folds} == {"unseen"}


def test_rows_of_a_fold_are_those_of_its_speakers(design, corpus):
    for fold in design.folds:
        rows = design.fold(corpus, fold.number)
        assert tuple(sorted(set(corpus.table["speaker"].iloc[rows.test]))) == fold.test
        assert tuple(sorted(set(corpus.table["speaker"].iloc[rows.validation]))) == fold.validation
        assert rows.unit == "speaker"


RATES = {"clean": 0.0, "noisy-B": 0.4, "noisy-A": 0.26}


@pytest.mark.parametrize(
    ("asked", "methods", "expected"),
    [
        (None, METHODS, {"level": "noisy-B", "method": "proselflc"}),
        (None, ("elr", "cross_entropy"), {"level": "noisy-B", "method": "elr"}),
        (None, ("cross_entropy",), None),
        (None, ("elr", "proselflc"), None),
        (("elr", "clean"), METHODS, {"level": "clean", "method": "elr"}),
    ],
)
def test_the_primary_comparison(asked, methods, expected):
    trained = {(method, level) for method in methods for level in RATES}
    assert primary_comparison(asked, methods, RATES, "cross_entropy", trained) == expected


def test_the_primary_comparison_is_one_that_is_trained():
    methods, asked = ("cross_entropy", "elr", "cross_entropy+soft"), ("cross_entropy+soft", "noisy-B")
    trained = {("elr", "noisy-B"), *((method, "clean") for method in methods)}
    chosen = primary_comparison(None, methods, RATES, "cross_entropy", trained)
    assert chosen == {"level": "clean", "method": "elr"}  # the reference is not trained at noisy-B
    trained |= {("cross_entropy", "noisy-B")}
    chosen = primary_comparison(None, methods[::-1], RATES, "cross_entropy", trained)
    assert chosen == {"level": "noisy-B", "method": "elr"}
    with pytest.raises(UserError, match=r"Name one of: elr clean, cross_entropy\+soft clean, elr noisy-B\."):
        primary_comparison(asked, methods, RATES, "cross_entropy", trained)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("elf", "clean"), "'elf'. Did you mean 'elr'"),
        (("cross_entropy", "clean"), "unknown --primary method"),
        (("elr", "noisy-C"), "unknown --primary level 'noisy-C'"),
    ],
)
def test_a_primary_comparison_that_is_not_part_of_it_is_refused(asked, message):
    with pytest.raises(UserError, match=message):
        primary_comparison(asked, METHODS, RATES, "cross_entropy", set())


def test_the_command_that_repeats_a_design_declares_the_same(design):
    assert design_words(design) == ["--seeds", "2", "--primary", "proselflc", "noisy-B"]
    assert design_words(replace(design, pilot=True, primary=None, reference="elr")) == [
        "--pilot", "--seeds", "2", "--reference", "elr"
    ]  # fmt: skip
