"""Comparison of methods over independently trained folds: answers known by hand, and properties of the test."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.inference import (
    BETTER,
    NO_EVIDENCE,
    NOT_POSSIBLE,
    SCOPE_FOLDS,
    SCOPE_TRAININGS,
    WORSE,
    compare_methods,
    flip_signs,
    method_scores,
    pays_from,
)
from benchmarks.inference import Study, claims, covers
from ser.utils.errors import UserError
from study.setup.power import MEASURED

CLASSES = ("anger", "neutral")


def results(right, total=20, seeds=1, level="clean"):
    """Return results of methods with the given (fold or training) → right predictions of each class."""
    folds = len(next(iter(right.values()))) // seeds
    return pd.DataFrame(
        [
            (method, level, fold, seed, f"s{fold}", label, counts[fold * seeds + seed], total)
            for method, counts in right.items()
            for fold in range(folds)
            for seed in range(seeds)
            for label in CLASSES
        ],
        columns=["method", "level", "fold", "seed", "speaker", "label", "correct", "total"],
    )


def random_results(rng, folds=10, methods=("ce", "a", "b"), levels=("low", "high"), seeds=1, gain=()):
    gain = dict(gain)
    return pd.DataFrame(
        [
            (method, level, fold, seed, f"s{fold}", label, right, 15)
            for method in methods
            for level in levels
            for fold in range(folds)
            for seed in range(seeds)
            for label in CLASSES
            for right in [rng.binomial(15, 0.5 + gain.get((level, method), 0.0))]
        ],
        columns=["method", "level", "fold", "seed", "speaker", "label", "correct", "total"],
    )


def only(compared):
    assert len(compared) == 1
    return compared.iloc[0]


# Known by hand


def test_six_folds_of_one_sign_are_the_smallest_p_and_a_claim():
    row = only(compare_methods(results({"ce": [10] * 6, "a": [12, 13, 12, 13, 12, 13]}), "ce"))
    assert (row["level"], row["method"], row["verdict"], row["units"], row["unit"]) == ("clean", "a", BETTER, 6, "fold")
    assert row["uar"] - row["uar_reference"] == pytest.approx(row["difference"]) == pytest.approx(0.125)
    assert row["p"] == row["p_adjusted"] == row["p_smallest"] == 2 / 64
    # Shares of .1/6 and .15/6: t with five degrees of freedom times their standard deviation, √6 times.
    reach = 2.570582 * np.std([0.1 / 6, 0.15 / 6] * 3, ddof=1) * np.sqrt(6)
    assert (row["low"], row["high"]) == pytest.approx((0.125 - reach, 0.125 + reach))
    assert row["scope"] == SCOPE_FOLDS


def test_the_sign_of_the_claim():
    assert only(compare_methods(results({"ce": [12, 13] * 4, "a": [10] * 8}), "ce"))["verdict"] == WORSE


def test_one_fold_against_the_others_counts_as_one_pattern_more():
    # Shares 3, 3, 3, 3, 3, 3, −1: the sum 17 is reached by +17 and by all positive, in two signs: 4 of 128 patterns.
    row = only(compare_methods(results({"ce": [10] * 7, "a": [13] * 6 + [9]}), "ce"))
    assert row["p"] == 4 / 128


def test_unequal_folds_pool_their_counts():
    table = results({"ce": [5, 5], "a": [6, 9]}, total=10)
    table.loc[table["fold"] == 1, "total"] = 30
    assert only(compare_methods(table, "ce"))["difference"] == pytest.approx(5 / 40)


def test_a_class_weighs_the_same_whatever_its_size():
    table = results({"ce": [5, 5], "a": [5, 5]}, total=10)
    table.loc[table["label"] == "anger", "total"] = 100
    table.loc[(table["label"] == "neutral") & (table["method"] == "a"), "correct"] = 9
    assert only(compare_methods(table, "ce"))["difference"] == pytest.approx(0.4 / 2)


def test_classes_without_test_utterances_do_not_count():
    table = results({"ce": [5, 5], "a": [6, 7]}, total=10)
    none = table[table["label"] == "anger"].assign(label="calm", correct=0, total=0)
    expected = compare_methods(table, "ce")
    pd.testing.assert_frame_equal(compare_methods(pd.concat([table, none]), "ce"), expected)
    pd.testing.assert_frame_equal(compare_methods(pd.concat([table, none[none["method"] == "a"]]), "ce"), expected)


def test_seeds_are_averaged_within_the_fold():
    two = compare_methods(results({"ce": [10, 12] * 6, "a": [12, 13] * 6}, seeds=2), "ce")
    one = compare_methods(results({"ce": [11] * 6, "a": [12.5] * 6}), "ce")
    pd.testing.assert_frame_equal(two.drop(columns="seeds"), one.drop(columns="seeds"))
    assert only(two)["seeds"] == 2


def test_with_one_fold_the_unit_is_the_training():
    row = only(compare_methods(results({"ce": [10] * 8, "a": [12, 13] * 4}, seeds=8), "ce"))
    assert (row["unit"], row["units"], row["p"], row["verdict"]) == ("training", 8, 2 / 256, BETTER)
    assert row["difference"] == pytest.approx(0.125)
    assert row["scope"] == SCOPE_TRAININGS


def test_the_score_of_a_method_has_an_interval_over_its_folds():
    row = method_scores(results({"ce": [10] * 6, "a": [12, 13, 12, 13, 12, 13]})).set_index("method").loc["a"]
    reach = 2.570582 * np.std([0.6, 0.65] * 3, ddof=1) / np.sqrt(6)
    assert (row["uar"], row["low"], row["high"]) == pytest.approx((0.625, 0.625 - reach, 0.625 + reach))
    assert (row["by_unit"], row["unit"], row["units"]) == ((0.6, 0.65) * 3, "fold", 6)


def test_scores_pool_unequal_folds_stay_in_range_and_need_two_units_for_an_interval():
    table = results({"a": [6, 9]}, total=10)
    table.loc[table["fold"] == 1, "total"] = 30
    row = only(method_scores(table))
    assert (row["uar"], row["by_unit"]) == (pytest.approx(15 / 40), (0.6, 0.3))
    assert (row["low"], row["high"]) == (0, 1)
    assert np.isnan(only(method_scores(results({"a": [10]})))["low"])
    trainings = only(method_scores(results({"a": [10, 14]}, seeds=2)))
    assert (trainings["by_unit"], trainings["unit"]) == ((0.5, 0.7), "training")


def test_scores_of_random_studies_are_those_that_are_compared():
    table = random_results(np.random.default_rng(1))
    scores = method_scores(table).set_index(["level", "method"])["uar"]
    for row in compare_methods(table, "ce").to_dict("records"):
        assert row["uar"] == pytest.approx(scores[row["level"], row["method"]])
        assert row["uar_reference"] == pytest.approx(scores[row["level"], "ce"])


@pytest.mark.parametrize("units", [1, 2, 5])
def test_few_units_permit_no_claim(units):
    row = only(compare_methods(results({"ce": [10] * units, "a": [15] * units}), "ce"))
    assert (row["verdict"], row["p"], row["detectable"]) == (NOT_POSSIBLE, 2.0 ** (1 - units), np.inf)
    assert np.isnan(row["low"]) == (units == 1)


def test_no_difference_at_all():
    row = only(compare_methods(results({"ce": [10] * 24, "a": [10] * 24}), "ce"))
    assert (row["difference"], row["low"], row["high"], row["p"], row["verdict"]) == (0, 0, 0, 1, NO_EVIDENCE)
    assert np.isnan(row["detectable"])


def test_a_single_method_gives_no_rows():
    compared = compare_methods(results({"ce": [10] * 6}), "ce")
    assert compared.empty
    assert "verdict" in compared


# Families


def test_max_t_equals_a_count_over_all_patterns():
    shares = np.random.default_rng(1).normal(0.2, 1, (7, 3))
    scaled = shares / np.sqrt((shares**2).sum(axis=0))
    patterns = [np.abs(np.array(signs) @ scaled) for signs in itertools.product((1, -1), repeat=7)]
    observed = np.abs(scaled.sum(axis=0))
    found = flip_signs(shares, np.zeros(3, bool))
    assert found.p == pytest.approx([np.mean([p[k] >= observed[k] - 1e-9 for p in patterns]) for k in range(3)])
    adjusted = [np.mean([p.max() >= observed[k] - 1e-9 for p in patterns]) for k in range(3)]
    assert found.p_adjusted == pytest.approx(adjusted)
    assert (found.p_adjusted >= found.p).all()


@pytest.mark.parametrize("gain", [0.0, 0.4])
def test_a_primary_comparison_is_tested_at_half_the_level_and_hands_it_on_when_claimed(gain):
    rng = np.random.default_rng(2)
    table = random_results(rng, gain={("high", "a"): gain, ("high", "b"): 0.25})
    compared = compare_methods(table, "ce", ("high", "a")).set_index(["level", "method"])
    alone = compare_methods(table[~((table["level"] == "high") & (table["method"] == "a"))], "ce")
    first = compared.loc["high", "a"]
    assert first["p_adjusted"] == min(1, 2 * first["p"])
    assert (first["verdict"] == BETTER) == (gain > 0)
    assert first["alpha"] == 0.025
    others = compared.drop(("high", "a"))
    expected = alone.set_index(["level", "method"])["p_adjusted"] * (1 if gain else 2)
    pd.testing.assert_series_equal(others["p_adjusted"], expected.clip(upper=1), check_like=True)
    assert (others["alpha"] == (0.05 if gain else 0.025)).all()


def test_six_units_permit_a_claim_without_a_primary_comparison_alone():
    table = pd.concat([results({"ce": [10] * 6, "a": [12, 13] * 3}, level=level) for level in ("low", "high")])
    assert (compare_methods(table, "ce")["verdict"] == BETTER).all()
    assert (compare_methods(table, "ce", ("high", "a"))["verdict"] == NOT_POSSIBLE).all()


def test_a_primary_comparison_without_others_is_two_p():
    row = only(compare_methods(results({"ce": [10] * 8, "a": [12, 13] * 4}), "ce", ("clean", "a")))
    assert row["p_adjusted"] == 4 / 256


def test_an_interval_clear_of_0_can_be_no_evidence_among_many():
    rng = np.random.default_rng(0)
    table = random_results(rng, folds=12, methods=["ce", *"abcdefgh"], gain={("low", "a"): 0.1})
    row = compare_methods(table, "ce").set_index(["level", "method"]).loc["low", "a"]
    assert row["low"] > 0
    assert row["p"] < 0.05 < row["p_adjusted"]
    assert row["verdict"] == NO_EVIDENCE


def test_the_detectable_difference_grows_with_the_number_of_comparisons():
    table = random_results(np.random.default_rng(3), folds=24)
    several = compare_methods(table, "ce")
    one = compare_methods(table[(table["level"] == "low") & (table["method"] != "b")], "ce")
    assert one["detectable"].iloc[0] < several["detectable"].iloc[0]
    error = (one["high"] - one["low"]).iloc[0] / 2 / 2.0687
    assert one["detectable"].iloc[0] == pytest.approx(2.93 * error, rel=0.01)


# Properties


@pytest.mark.parametrize("folds", [9, 24])
def test_neither_the_order_of_rows_nor_the_type_of_columns_matters(folds):
    table = random_results(np.random.default_rng(4), folds=folds, seeds=2)
    expected = compare_methods(table, "ce", seed=5)
    other = table.sample(frac=1, random_state=0)
    other = other.sort_values(["method", "level"], key=lambda names: names.map(["low", "high", "ce", "a", "b"].index))
    other = other.astype({"method": "category", "label": "category", "total": float})[other.columns[::-1]]
    pd.testing.assert_frame_equal(compare_methods(other, "ce", seed=5), expected)


def test_swapping_method_and_reference_swaps_the_sign():
    table = random_results(np.random.default_rng(5), methods=("a", "b"))
    there, back = compare_methods(table, "a"), compare_methods(table, "b")
    assert there["difference"].tolist() == pytest.approx((-back["difference"]).tolist())
    assert there["low"].tolist() == pytest.approx((-back["high"]).tolist())
    assert there["p_adjusted"].tolist() == back["p_adjusted"].tolist()


def test_the_seed_of_random_patterns_repeats_and_matters_little():
    table = random_results(np.random.default_rng(6), folds=24)
    first, again, other = (compare_methods(table, "ce", seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert np.abs(first["p"] - other["p"]).max() < 0.03
    assert (first["p_smallest"] == 1 / 10_001).all()


def test_thirty_three_comparisons_of_ninety_one_folds_are_fast():
    methods = ["ce", *(f"m{number}" for number in range(11))]
    table = random_results(np.random.default_rng(7), 91, methods, ("clean", "low", "high"))
    started = time.perf_counter()
    assert len(compare_methods(table, "ce", ("high", "m0"))) == 33
    assert time.perf_counter() - started < 2


# Simulated studies; benchmarks/inference.py simulates more


def simulate(studies, study, count):
    """Return how often an event happens, and two standard errors of a rate of .05."""
    rng = np.random.default_rng(8)
    return np.mean([count(study.simulate(rng)) for _ in range(studies)]), 2 * np.sqrt(0.05 * 0.95 / studies)


@pytest.mark.parametrize("primary", [False, True])
@pytest.mark.parametrize(("folds", "run"), [(10, 0.0), (10, 0.04), (24, 0.026)])
def test_studies_without_a_difference_claim_one_in_at_most_5_percent(folds, run, primary):
    study = Study(np.arange(folds), replace(MEASURED, run=run), comparisons=11)
    rate, tolerance = simulate(200, study, lambda shares: claims(study.by_fold(shares), primary).any())
    assert rate <= 0.05 + 1.5 * tolerance


def test_speakers_judged_by_the_same_trainings_are_no_units():
    study = Study(np.zeros(11, int), seeds=5)
    rate, _ = simulate(150, study, lambda shares: claims(study.by_speaker(shares))[0])
    assert rate > 0.2


def test_trainings_of_one_fold_are_units():
    study = Study(np.zeros(11, int), seeds=8)
    rate, tolerance = simulate(200, study, lambda shares: claims(study.by_training(shares))[0])
    assert rate <= 0.05 + 1.5 * tolerance


def test_two_speakers_of_a_dialogue_are_no_units():
    study = Study(np.arange(10), counts=np.full((10, 4), 100), session=np.arange(10) // 2, shared=(0.6, 0.6, 0.6))
    rate, tolerance = simulate(800, study, lambda shares: claims(study.by_fold(shares))[0])
    assert rate > 0.05 + tolerance


@pytest.mark.parametrize("sizes", [1, np.geomspace(1, 4, 24)[:, None]])
def test_intervals_cover_the_true_difference(sizes):
    counts = np.round(sizes * np.array([8, 8, 8, 8, 4, 8])).astype(int).reshape(-1, 6)
    study = Study(np.arange(24), effect=0.05, counts=counts)
    rate, tolerance = simulate(400, study, lambda shares: covers(study, study.by_fold(shares)))
    assert abs(rate - 0.95) <= 1.5 * tolerance


# Errors


def without(table, **where):
    keep = np.ones(len(table), bool)
    keep[np.logical_and.reduce([table[name] == value for name, value in where.items()])] = False
    return table[keep]


GOOD = results({"ce": [10, 11, 12, 13], "a": [11, 12, 13, 14]}, seeds=2)
FIRST = GOOD.index == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (GOOD.drop(columns=["total", "fold"]), "no column fold, total"),
        (GOOD.assign(correct=GOOD["correct"].where(~FIRST)), "missing values in correct"),
        (GOOD.assign(method=GOOD["method"].where(~FIRST)), "missing values in method"),
        (pd.concat([GOOD, GOOD[:1]]), "1 rows twice, the first: level clean, method ce, fold 0, seed 0, speaker s0"),
        (GOOD.assign(correct=GOOD["correct"].where(~FIRST, 21)), "21 of 20"),
        (GOOD.assign(correct=GOOD["correct"].where(~FIRST, -1)), "-1 of 20"),
        (GOOD.assign(total=GOOD["total"].where(~FIRST, np.inf)), "of inf"),
        (GOOD.assign(total=0, correct=0), "no test utterances"),
        (GOOD[:0], "no test utterances"),
        (GOOD.assign(speaker="s0"), "speaker s0 is tested in fold 1 and in another one"),
        (without(GOOD, method="a", fold=1), "a at clean has no fold 1, seed 0; a at clean has no fold 1, seed 1"),
        (without(GOOD, method="ce", seed=1), "ce at clean has no fold 0, seed 1"),
        (without(GOOD, fold=1, seed=1), "ce at clean has no fold 1, seed 1; a at clean has no fold 1, seed 1"),
        (without(GOOD, method="a", seed=1, label="anger"), "different utterances of speaker s0, class anger"),
        (GOOD.assign(total=GOOD["total"].where(~FIRST, 21)), "different utterances of speaker s0"),
        (without(GOOD, method="ce"), "unknown reference method 'ce'"),
        (pd.concat([GOOD, GOOD[GOOD["method"] == "a"].assign(level="high")]), "reference, has no results at high"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(table, message):
    with pytest.raises(UserError, match=message):
        compare_methods(table, "ce")


def test_an_unknown_primary_comparison_is_an_error():
    with pytest.raises(UserError, match=r"primary comparison is a at high.*: a at clean"):
        compare_methods(GOOD, "ce", ("high", "a"))


# Dose and response


def test_a_method_pays_from_the_level_above_which_it_is_better_throughout():
    verdicts = {
        "always": [BETTER, BETTER, BETTER],
        "from B": [BETTER, NO_EVIDENCE, BETTER],
        "not at the top": [BETTER, BETTER, WORSE],
        "partly tested": [None, BETTER, BETTER],
    }
    levels = ["clean", "A", "B"]
    rows = [
        (level, name, verdict)
        for name, row in verdicts.items()
        for level, verdict in zip(levels, row, strict=True)
        if verdict
    ]
    compared = pd.DataFrame(rows, columns=["level", "method", "verdict"])
    assert pays_from(compared, levels) == {
        "always": "clean",
        "from B": "B",
        "not at the top": None,
        "partly tested": "A",
    }
