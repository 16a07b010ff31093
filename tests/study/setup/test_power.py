"""Power of a design: against the figures that simulations gave, and against made-up pilots."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ser.utils.errors import UserError
from study.setup.power import (
    MEASURED,
    Components,
    Design,
    components_from_pilot,
    detectable,
    noncentrality,
    power_lines,
    single_level,
    standard_error,
)

RAVDESS = Design(folds=24, seeds=1, speakers=1, utterances=(8, 8, 8, 8, 4, 8), primary=False)
EIGHT_CLASSES = (8, 8, 8, 8, 4, 8, 8, 8)


def power(design, difference, alpha=0.05):
    level = single_level(alpha, design.others, design.levels)
    freedom = design.units - 1
    return stats.nct.sf(stats.t.isf(level / 2, freedom), freedom, difference / standard_error(design))


def test_differences_vary_by_6_to_7_points_over_speakers_of_44_utterances():
    assert 0.06 < standard_error(RAVDESS) * np.sqrt(24) < 0.07


def test_one_comparison_over_24_speakers_shows_about_4_points():
    assert detectable(RAVDESS, primary=False) == pytest.approx(0.04, abs=0.002)


@pytest.mark.parametrize(
    ("methods", "levels", "seeds", "simulated"), [(2, 1, 1, 0.96), (12, 3, 1, 0.55), (12, 3, 2, 0.93)]
)
def test_power_for_5_points_is_that_of_the_simulated_studies(methods, levels, seeds, simulated):
    design = replace(RAVDESS, utterances=EIGHT_CLASSES, methods=methods, levels=levels, seeds=seeds)
    assert power(design, 0.05) == pytest.approx(simulated, abs=0.08)


def test_detectable_has_power_08():
    for design in (RAVDESS, replace(RAVDESS, methods=12, levels=3), replace(RAVDESS, folds=91, speakers=2)):
        assert power(design, detectable(design, primary=False)) == pytest.approx(0.8)


def test_more_data_shows_smaller_differences_and_more_comparisons_larger_ones():
    def shown(**changes):
        return detectable(replace(RAVDESS, **changes), primary=False)

    assert shown(folds=91) < shown(folds=24, seeds=2) < shown(speakers=2) < shown() < shown(methods=4)
    assert shown(utterances=(100,) * 6) < shown()
    assert shown(methods=13) < shown(methods=5, levels=3)  # the same number: a shared reference makes them alike
    assert shown(seeds=10_000) == pytest.approx(MEASURED.speaker_method / np.sqrt(24) * noncentrality(24), rel=0.05)


def test_classes_without_test_utterances_do_not_count():
    with_empty = replace(RAVDESS, utterances=(*RAVDESS.utterances, 0))
    assert standard_error(with_empty) == standard_error(RAVDESS)


def test_the_level_of_one_of_several_comparisons():
    assert single_level(0.05, 3, 3) == pytest.approx(1 - 0.95 ** (1 / 3))
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200_000, 1)) / np.sqrt(2) + rng.normal(size=(200_000, 5)) / np.sqrt(2)
    critical = stats.norm.isf(single_level(0.05, 5) / 2)
    assert (np.abs(shared).max(axis=1) > critical).mean() == pytest.approx(0.05, abs=0.0015)


def test_few_units_show_nothing():
    assert noncentrality(5) == noncentrality(6, alpha=0.025) == np.inf
    assert noncentrality(6) < np.inf
    (line,) = power_lines(Design(folds=5, seeds=1, speakers=2, utterances=(100,) * 4))
    assert "'not possible'" in line
    assert "At least 7" in line


def test_lines_name_the_difference_and_what_would_show_smaller_ones():
    first, *goals = power_lines(replace(RAVDESS, methods=12, levels=3, primary=True))
    assert "24 folds × 1 seed can show" in first
    assert "4.6 points for the primary comparison; 6.6 points for each of 32 other comparisons" in first
    assert MEASURED.source in first
    assert [line[:8] for line in goals] == ["5 points", "3 points", "2 points"]
    assert "24 folds × 1 seed or 21 folds × 1 seed for the primary comparison" in goals[0]


@pytest.mark.parametrize("goal", [0.05, 0.03])
def test_what_a_difference_would_take_is_the_smallest_that_suffices(goal):
    line = next(line for line in power_lines(RAVDESS) if line.startswith(f"{100 * goal:.0f} points take"))
    folds = int(line.split(" or ")[1].split()[0])
    assert detectable(replace(RAVDESS, folds=folds), primary=False) <= goal
    assert detectable(replace(RAVDESS, folds=folds - 1), primary=False) > goal


def test_the_unit_of_one_fold_is_the_training():
    design = Design(folds=1, seeds=8, speakers=60, utterances=(1000,) * 4)
    assert design.units == 8
    first, goal, *_ = power_lines(design)
    assert first.startswith("1 fold × 8 seeds can show")
    assert "folds" not in goal
    assert "At least 7" in power_lines(replace(design, seeds=3))[0]


# Pilots


def pilot(seeds, speakers, components, rng, utterances=30, classes=5):
    """Return (S, P, C) right predictions and (P, C) utterances; an utterance is right in all trainings or contested."""
    contested = components.utterance**2 / 0.25
    skill = rng.normal(0, components.run, (seeds, 1)) + rng.normal(0, components.speaker_run, (seeds, speakers))
    total = np.full((speakers, classes), utterances)
    sometimes = np.round(contested * total).astype(int)
    always = rng.binomial(total - sometimes, 0.4)
    chance = np.clip(0.5 + skill[:, :, None] / contested, 0, 1)
    return always + rng.binomial(sometimes, np.broadcast_to(chance, (seeds, speakers, classes))), total


def test_a_pilot_of_many_trainings_finds_its_components():
    truth = Components(run=0.03, speaker_run=0.02, utterance=0.2)
    found = components_from_pilot(*pilot(400, 12, truth, np.random.default_rng(1)))
    assert (found.run, found.speaker_run) == pytest.approx((0.03, 0.02), rel=0.15)
    assert found.utterance == 0.2
    assert found.draw == 0
    assert "400 trainings" in found.source


@pytest.mark.parametrize("speakers", [1, 3])
def test_a_pilot_predicts_the_spread_of_its_own_fold(speakers):
    correct, total = pilot(200, speakers, Components(run=0.04), np.random.default_rng(2))
    uar = (correct / total).mean(axis=(1, 2))
    design = Design(folds=24, seeds=1, speakers=speakers, utterances=tuple(total.sum(axis=0)))
    error = standard_error(design, replace(components_from_pilot(correct, total), speaker_method=0))
    assert error == pytest.approx(np.sqrt(2 / 24) * uar.std(ddof=1), rel=0.01)


def test_trainings_that_agree_have_no_spread():
    correct = np.tile(np.random.default_rng(3).integers(0, 10, (3, 4)), (4, 1, 1))
    found = components_from_pilot(correct, np.full((3, 4), 10))
    assert (found.run, found.speaker_run, found.utterance) == (0, 0, 0)


def test_speakers_of_a_pilot_may_lack_classes():
    total = np.array([[10, 0], [10, 10]])
    correct = np.array([[[5, 0], [5, 5]], [[6, 0], [6, 6]]])
    found = components_from_pilot(correct, total)
    assert found.run == pytest.approx(0.1 / np.sqrt(2))


def test_a_pilot_of_one_training_is_an_error():
    with pytest.raises(UserError, match="at least two trainings"):
        components_from_pilot(np.ones((1, 2, 3)), np.ones((2, 3)))
