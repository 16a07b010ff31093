"""The three sentences say what the comparisons say, and no more."""

import pandas as pd
import pytest

from analysis.page.answer import certainty, effect_sentence, which_loss
from analysis.sections.significance.comparisons import BETTER, IMPOSSIBLE, NO_EVIDENCE, SEEN, WORSE

NAN = float("nan")
SCORES = pd.DataFrame({"noise": ["noisy-B"] * 2, "space": ["elr", "cross_entropy"], "uar": [0.5, 0.4]})
NONE = SCORES.iloc[:0]


def comparison(method="elr", noise="noisy-B", verdict=NO_EVIDENCE, **more):
    return {
        "folds": "held out", "noise": noise, "rate": 0.4019, "method": method, "reference": "cross_entropy",
        "uar": 0.5, "uar_reference": 0.4, "difference": 0.1, "low": 0.02, "high": 0.15, "p_holm": 0.004,
        "verdict": verdict, "speakers": 12, "seeds": "1, 2, 3", "smallest_detectable": 0.03, **more,
    }  # fmt: skip


def compared(*rows):
    return pd.DataFrame(rows or [], columns=list(comparison()))


def test_a_better_method_is_recommended_with_both_scores():
    sentence = which_loss(compared(comparison(verdict=BETTER)), SCORES, "cross_entropy")
    assert sentence == (
        "At noisy-B (40.2% of the labels wrong) train with elr, whose test UAR is 0.500 against 0.400 with "
        "cross_entropy."
    )


def test_of_two_better_ones_the_first_by_score_is_named_and_the_other_not_hidden():
    rows = compared(comparison(verdict=BETTER), comparison("gce", verdict=BETTER, uar=0.45))
    sentence = which_loss(rows, SCORES, "cross_entropy")
    assert "train with elr" in sentence
    assert "gce is also better than it" in sentence


@pytest.mark.parametrize("verdict", [NO_EVIDENCE, IMPOSSIBLE])
def test_without_evidence_nothing_is_recommended_however_high_the_score(verdict):
    sentence = which_loss(compared(comparison(verdict=verdict, uar=0.9)), SCORES, "cross_entropy")
    assert sentence == "At noisy-B nothing shows that elr is better than cross_entropy."
    assert "train with" not in sentence


def test_each_level_has_its_own_verdict():
    rows = compared(comparison(noise="clean", verdict=WORSE), comparison(verdict=BETTER))
    sentence = which_loss(rows, SCORES, "cross_entropy")
    assert "train with elr" in sentence
    assert "at clean nothing shows that elr is better" in sentence
    assert "at clean elr is worse than cross_entropy" in sentence


def test_a_search_alone_cannot_show_which_loss():
    sentence = which_loss(compared(), NONE, "cross_entropy")
    assert "The search alone cannot show which loss" in sentence
    assert certainty(compared(), "python study/confirm.py").endswith("python study/confirm.py")


def test_one_method_alone_is_scored_and_not_compared():
    sentence = which_loss(compared(), SCORES.head(1), "cross_entropy")
    assert "Which loss is best is unknown" in sentence
    assert "elr 0.500 at noisy-B" in sentence


def test_evidence_comes_with_its_interval_and_corrected_p():
    sentence = certainty(compared(comparison(verdict=BETTER)), "")
    assert sentence == (
        "1 paired comparison over 12 test speakers and 3 seeds: elr at noisy-B differs by +10.0 points (95 % interval "
        "+2.0 to +15.0), p = 0.004 after correction."
    )


def test_no_evidence_comes_with_what_would_have_been_missed():
    rows = compared(comparison(difference=-0.01), comparison("gce", difference=0.004, smallest_detectable=0.025))
    sentence = certainty(rows, "")
    assert "no evidence of a difference in 2, the largest −1.0 points" in sentence
    assert "differences below 3.0 points would probably have been missed" in sentence


def test_a_design_that_could_show_nothing_is_no_evidence_of_likeness():
    sentence = certainty(compared(comparison(verdict=IMPOSSIBLE, speakers=3)), "")
    assert "these could not have shown a difference, however large" in sentence
    assert "no evidence that the losses are equally good" in sentence


def test_seen_folds_are_named_and_nan_is_not_shown():
    row = comparison(folds=SEEN, low=NAN, high=NAN, smallest_detectable=NAN, seeds="1", speakers=1)
    sentence = certainty(compared(row), "")
    assert "folds that the search has seen" in sentence
    assert "nan" not in sentence
    assert "1 test speaker and 1 seed, on folds" in sentence


def fate(space, changed, precision=NAN, memorised=NAN, noise="noisy-B", rate=0.4):
    return {
        "noise": noise, "rate": rate, "space": space, "trials": 3, "changed": changed, "precision": precision,
        "memorised": memorised,
    }  # fmt: skip


def test_the_fate_of_the_labels_is_that_of_the_noisiest_level():
    rows = [fate("elr", 0.3, noise="clean", rate=0.0), fate("elr", 0.12, 0.45, 0.2), fate("cross_entropy", 0, NAN, 0.3)]
    sentence = effect_sentence(pd.DataFrame(rows), "cross_entropy", confirmed=True)
    assert sentence == (
        "At noisy-B (40.0% of the labels wrong), elr changed 12.0% of the training labels in the last epoch, 45% of "
        "these to the true one; with elr the network had memorised 20% of the wrong labels, with cross_entropy 30% "
        "(mean of 3 trials, described and not tested)."
    )


def test_labels_that_nobody_changed_and_labels_without_truth():
    unchanged = pd.DataFrame([fate("elr", 0.0), fate("cross_entropy", 0.0)])
    assert "no loss changed a training label" in effect_sentence(unchanged, "cross_entropy", confirmed=False)
    unknown = pd.DataFrame([fate("elr", 0.1, rate=NAN)])
    sentence = effect_sentence(unknown, "cross_entropy", confirmed=False)
    assert "nan" not in sentence
    assert "of the search" in sentence
    assert "not on record" in effect_sentence(unknown.assign(changed=NAN), "cross_entropy", confirmed=True)
