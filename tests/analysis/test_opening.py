"""The first screen: advice per noise level, the primary comparison in one sentence, and what was trained."""

import pytest
import yaml

from analysis.common.families import read_families
from analysis.page.opening import Advice, make_opening
from analysis.page.recommendation import recommend, write_configurations
from study.schema import STOPPED
from tests.helpers.confirmed_records import confirmed_records

TWELVE = {fold: [fold] for fold in range(1, 13)}
FIVE = {fold: [fold] for fold in range(1, 6)}
PRIMARY = ("noisy-B", "proselflc")


def constant(right):
    return lambda speaker, seed: right


def wavering(speaker, seed):
    return 5 + (speaker + seed) % 2


def made(folds=TWELVE, primary=PRIMARY, noise=("clean", "noisy-B"), **methods):
    cells = {(level, space): right for level in noise for space, right in methods.items()}
    return confirmed_records(cells, folds=folds, primary=primary)


def test_a_row_per_level_says_what_to_train_with_its_score_chance_and_why(tmp_path):
    cells = {("clean", "cross_entropy"): constant(8), ("clean", "elr"): wavering}
    cells |= {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(8)}
    records = confirmed_records(cells, folds=TWELVE, primary=("noisy-B", "elr"))
    opening = make_opening(records)
    score = "test UAR 80.0% (95 % interval 80.0 to 80.0)"
    reasons = "the reference; nothing shown to be better", "better than cross entropy (+25.0 points, p < 0.001)"
    assert opening.advice == (
        Advice("clean", "0.0%", "cross entropy", "recommended-clean.yaml", score, "50.0%", reasons[0]),
        Advice("noisy-B", "40.2%", "ELR", "recommended-noisy-B.yaml", score, "50.0%", reasons[1]),
    )
    written = write_configurations(records, recommend(read_families(records)), tmp_path)
    assert [path.name for path in written] == [row.configuration for row in opening.advice]
    assert yaml.safe_load(written[1].read_text(encoding="utf-8"))["loss.name"] == "elr"


def test_the_primary_comparison_is_one_sentence_and_not_said_twice():
    opening = make_opening(made(cross_entropy=wavering, proselflc=constant(8), elr=constant(7)))
    assert opening.primary == (
        "Declared beforehand: at noisy-B (40.2% of the labels wrong) ProSelfLC is better than cross entropy, by 25.0 "
        "points of test UAR (95 % interval +21.7 to +28.3, corrected p < 0.001)."
    )
    assert opening.primary not in opening.details
    assert len(set(opening.details)) == len(opening.details)
    assert not any(line.startswith(("Verdicts are over", "There is no evidence")) for line in opening.details)
    assert "At noisy-B ELR is better than cross entropy too, and not compared with it." in opening.details


def test_too_few_folds_have_no_interval_but_the_score_of_each():
    opening = make_opening(made(folds=FIVE, cross_entropy=wavering, proselflc=constant(8)))
    row = opening.advice[1]
    assert (row.method, row.score) == ("cross entropy", "test UAR 54.0% (folds: 50.0, 60.0, 50.0, 60.0 and 50.0)")
    assert row.why == "the reference; 5 folds cannot show a difference"
    assert "95 %" not in " ".join([opening.primary, *opening.details])


def test_an_incomplete_design_says_what_the_verdicts_wait_for():
    records = made(cross_entropy=wavering, proselflc=constant(8))
    records.confirmed.loc[records.confirmed["noise"] == "clean", "status"] = STOPPED
    clean, noisy = make_opening(records).advice
    assert clean == Advice("clean", "0.0%", "no verdict yet", "", "", "50.0%", "verdict pending: 24 trainings missing")
    assert noisy.why == "better than cross entropy (+25.0 points, p < 0.001)"
    records = made(cross_entropy=wavering, proselflc=constant(8))
    records.confirmed.loc[0, "status"] = STOPPED  # cross entropy at clean
    assert make_opening(records).advice[0].why == "verdict pending: 1 training missing"
    assert make_opening(records).advice[0].score == ""


def test_one_method_alone_is_scored_and_not_compared():
    opening = make_opening(made(primary=None, elr=wavering))
    assert [(row.method, row.score, row.why) for row in opening.advice] == [
        ("ELR", "test UAR 55.0% (95 % interval 51.7 to 58.3)", "the only method tested")
    ] * 2
    assert opening.primary == "No primary comparison was declared beforehand."


@pytest.fixture(scope="module")
def searched(new_made_store):
    store = new_made_store()
    skills = {("proselflc", "clean"): [0.5, 0.9], ("cross_entropy", "clean"): [0.6], ("soft_labels", "clean"): [0.99]}
    store.search(skills)
    return store


def test_a_search_alone_shows_its_best_as_not_confirmed(searched):
    opening = make_opening(searched.records())
    (row,) = opening.advice
    assert (row.method, row.configuration, row.why) == (
        "ProSelfLC", "", "best validation score of the search; not confirmed"
    )  # fmt: skip
    assert row.score.startswith("validation UAR ")
    assert opening.primary.startswith("A search alone cannot show which loss is better")
    assert f"python study/confirm.py --experiment made --tracking-uri {searched.uri} --study made" in opening.primary


def test_every_reason_has_twelve_words_at_most(searched):
    openings = [
        make_opening(searched.records()),
        make_opening(made(cross_entropy=wavering, proselflc=constant(8), elr=wavering)),
        make_opening(made(folds=FIVE, cross_entropy=wavering, proselflc=constant(8))),
    ]
    assert all(len(row.why.split()) <= 12 for opening in openings for row in opening.advice)


def test_what_was_trained_is_said_as_far_as_it_is_on_record(searched):
    trained = dict(make_opening(searched.records()).trained)
    assert trained["classes"] == "anger, happiness, neutral and sadness"
    assert trained["corpus"] == "made: 192 utterances"
    assert trained["wrong training labels"] == "clean 0.0%"


def test_terms_of_proselflc_are_explained_where_it_is_shown(searched):
    assert [term for term, _ in make_opening(searched.records()).terms] == ["UAR", "WA", "ECE", "Γ", "τ", "B"]
    records = made(cross_entropy=wavering, elr=constant(8), primary=None)
    assert [term for term, _ in make_opening(records).terms] == ["UAR", "WA", "ECE"]
