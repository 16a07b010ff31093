"""The first screen: advice per noise level, the primary comparison in one sentence, and what was trained."""

import pytest
import yaml

from analysis.common.families import read_families
from analysis.page.opening import Advice, make_opening
from analysis.page.recommendation import recommend, write_configurations
from study.schema import STOPPED
from tests.helpers.confirmed_records import confirmed_records, joined

TWELVE = {fold: [fold] for fold in range(1, 13)}
FIVE = {fold: [fold] for fold in range(1, 6)}
PRIMARY = ("noisy-B", "proselflc")


def constant(right):
    return lambda speaker, seed: right


def wavering(speaker, seed):
    return 5 + (speaker + seed) % 2


def made(folds=TWELVE, primary=PRIMARY, noise=("clean", "noisy-B"), stopped=None, **methods):
    cells = {(level, space): right for level in noise for space, right in methods.items()}
    return confirmed_records(cells, folds=folds, primary=primary, stopped=stopped)


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
    assert "5 folds cannot show a difference between ProSelfLC and cross entropy, however large" in opening.primary
    assert "95 %" not in " ".join([opening.primary, *opening.details])


def advised(records):
    """Return method and reason at each level."""
    return {row.level: (row.method, row.why) for row in make_opening(records).advice}


def test_of_several_better_methods_the_first_declared_is_advised_whatever_the_scores():
    opening = make_opening(made(noise=("noisy-B",), cross_entropy=wavering, proselflc=constant(7), elr=constant(9)))
    assert [(row.method, row.score) for row in opening.advice] == [
        ("ProSelfLC", "test UAR 70.0% (95 % interval 70.0 to 70.0)")
    ]
    assert "At noisy-B ELR is better than cross entropy too, and not compared with it." in opening.details


def test_without_evidence_the_reference_is_advised():
    records = made(noise=("noisy-B",), cross_entropy=wavering, proselflc=wavering)
    assert advised(records) == {"noisy-B": ("cross entropy", "the reference; nothing shown to be better")}


def test_each_level_has_its_own_verdict():
    cells = {("clean", "cross_entropy"): constant(8), ("clean", "proselflc"): wavering}
    cells |= {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "proselflc"): constant(8)}
    records = confirmed_records(cells, folds=TWELVE, primary=PRIMARY)
    assert advised(records) == {
        "clean": ("cross entropy", "the reference; nothing shown to be better"),
        "noisy-B": ("ProSelfLC", "better than cross entropy (+25.0 points, p < 0.001)"),
    }
    (claim,) = [line for line in make_opening(records).details if "ProSelfLC" in line and "worse" in line]
    assert claim.startswith("At clean (0.0% of the labels wrong) ProSelfLC is worse than cross entropy, by 25.0 points")


def test_oracles_are_shown_and_never_advised():
    records = made(primary=None, noise=("noisy-B",), cross_entropy=wavering, soft_labels=constant(10), elr=constant(7))
    assert advised(records)["noisy-B"][0] == "ELR"
    assert "Soft labels is an oracle: shown, and never recommended." in make_opening(records).details
    alone = made(primary=None, noise=("noisy-B",), cross_entropy=wavering, soft_labels=constant(10))
    assert advised(alone) == {"noisy-B": ("cross entropy", "the reference; nothing shown to be better")}


def test_an_early_stop_can_be_advised_after_the_declared_methods():
    stopped = {"cross_entropy": constant(8)}
    records = made(noise=("noisy-B",), cross_entropy=wavering, proselflc=wavering, stopped=stopped)
    (row,) = make_opening(records).advice
    assert (row.method, row.score) == (
        "cross entropy with an early stop", "test UAR 80.0% (95 % interval 80.0 to 80.0)"
    )  # fmt: skip


def test_the_first_confirmation_comes_first():
    first = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "proselflc"): constant(7)}
    later = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(9)}
    opening = make_opening(
        joined(
            confirmed_records(first, folds=TWELVE, primary=PRIMARY),
            confirmed_records(later, folds=TWELVE, study="second", seeds=(2,), start=1000),
        )
    )
    assert [row.method for row in opening.advice] == ["ProSelfLC"]
    assert opening.primary.startswith("Declared beforehand: at noisy-B (40.2% of the labels wrong) ProSelfLC is better")
    added = opening.details.index("Confirmation second was added later and changes no verdict of an earlier one.")
    assert opening.details[added + 1].startswith("At noisy-B (40.2% of the labels wrong) ELR is better")
    assert "At noisy-B ELR is better than cross entropy too, and not compared with it." in opening.details


def test_a_verdict_settles_what_another_confirmation_has_not_finished():
    cells = [{("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): right} for right in (wavering, constant(2))]
    records = joined(
        confirmed_records(cells[0], folds=TWELVE),
        confirmed_records(cells[1], folds=TWELVE, study="second", seeds=(2,), start=1000),
    )
    records.confirmed.loc[0, "status"] = STOPPED
    assert advised(records) == {"noisy-B": ("cross entropy", "the reference; nothing shown to be better")}


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
    assert "better" not in " ".join(line for line in make_opening(records).details if "clean" in line)


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
