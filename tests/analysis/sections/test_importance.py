"""Importance of parameters: answers known by hand, chance, bounds, expected performance, and the command line."""

import shlex
from itertools import combinations

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.common.parameters import Parameter, parameters_of, positions, values_near_bounds
from analysis.common.searches import Score
from analysis.sections.importance.expected_performance import expected_performance, sufficient_trials
from analysis.sections.importance.fanova import fanova
from analysis.sections.importance.scores import FANOVA, PED_ANOVA, importances
from analysis.sections.importance.section import (
    Options,
    bound_sentences,
    expected_sentences,
    importance_sentences,
    section,
)
from analysis.sections.importance.smoothing import kernel_mean


def trials_of(count, seed=0):
    """Random configurations of learning rate and weight decay, as MLflow has them."""
    rng = np.random.default_rng(seed)
    rates, decays = 10 ** rng.uniform(-3.5, -2, count), 10 ** rng.uniform(-4, -1, count)
    return [{"optimizer.lr": str(a), "optimizer.weight_decay": str(b)} for a, b in zip(rates, decays, strict=True)]


# Parameters


def test_a_space_knows_its_ranges_and_scales():
    rate, decay = parameters_of("cross_entropy", trials_of(5))
    assert (rate.name, rate.low, rate.high, rate.log, rate.declared) == ("optimizer.lr", 3e-4, 1e-2, True, True)
    assert decay.positions(["0.0001", "0.01", "0.1"]) == pytest.approx([0, 2 / 3, 1])
    assert decay.value_at(2 / 3) == pytest.approx(0.01)


def test_a_choice_and_a_step_are_those_of_the_space():
    trials = [
        {"loss.temperature.kind": kind, "loss.temperature.start": start}
        for kind, start in (("linear", "0.4"), ("constant", "0.7000000000000001"))
    ]
    kind, start = parameters_of("proselflc", trials)
    assert kind.choices == ("constant", "linear", "cosine")
    assert kind.numbers(["linear", "cosine"]).tolist() == [1, 2]
    assert start.positions(["0.7"]) == pytest.approx([0.5])


def test_only_what_all_trials_have_and_what_differs_is_compared():
    trials = [
        {"loss.name": "elr", "optimizer.lr": "0.001", "loss.momentum": "0.7", "optimizer.weight_decay": "0.01"},
        {"loss.name": "focal", "optimizer.lr": "0.002", "loss.gamma": "2", "optimizer.weight_decay": "0.01"},
    ]
    assert [parameter.name for parameter in parameters_of("all_losses", trials)] == ["loss.name", "optimizer.lr"]
    assert parameters_of("all_losses", trials)[0].declared


def test_an_unknown_space_and_one_that_has_changed_take_the_range_of_the_trials():
    trials = [{"a.x": value, "a.y": name} for value, name in (("1", "p"), ("1000", "q"), ("10", "p"))]
    x, y = parameters_of("mine", trials)
    assert (x.low, x.high, x.log, x.declared) == (1, 1000, True, False)
    assert (y.choices, y.declared) == (("p", "q"), False)
    outside = [{"optimizer.lr": "0.5"}, {"optimizer.lr": "0.001"}]
    assert not parameters_of("cross_entropy", outside)[0].declared


def test_values_near_a_bound_are_reported_with_a_range_that_the_configuration_takes():
    trials = [
        {"loss.momentum": "0.949", "loss.strength": "3.0", "optimizer.lr": "0.00031"},
        {"loss.momentum": "0.6", "loss.strength": "5.0", "optimizer.lr": "0.001"},
    ]
    momentum, rate = values_near_bounds("elr", parameters_of("elr", trials), trials[0]).to_dict("records")
    assert (momentum["parameter"], momentum["bound"], momentum["wider_low"]) == ("loss.momentum", "upper", 0.5)
    assert 0.95 < momentum["wider_high"] <= 1  # a quarter of .45 would go beyond 1, which no momentum takes
    assert (rate["parameter"], rate["bound"], rate["wider_high"]) == ("optimizer.lr", "lower", 0.01)
    assert 0 < rate["wider_low"] < 3e-4
    assert values_near_bounds("elr", parameters_of("elr", trials), trials[1]).empty


def test_what_has_no_room_beyond_its_bound_is_not_widened():
    trials = [{"loss.q": "1.0", "optimizer.lr": "0.001"}, {"loss.q": "0.5", "optimizer.lr": "0.002"}]
    parameters = parameters_of("generalized_cross_entropy", trials)
    (row,) = values_near_bounds("generalized_cross_entropy", parameters, trials[0]).to_dict("records")
    assert (row["wider_low"], row["wider_high"]) == (row["low"], row["high"])


def test_the_unused_end_of_a_constant_temperature_is_near_no_bound():
    trials = [
        {"loss.temperature.kind": kind, "loss.temperature.end": end}
        for kind, end in (("constant", "1.0"), ("linear", "1.0"), ("linear", "0.7"))
    ]
    parameters = parameters_of("proselflc", trials)
    assert [len(values_near_bounds("proselflc", parameters, trial)) for trial in trials] == [0, 1, 0]


# Importance


@pytest.fixture
def small_forests(monkeypatch):
    """Few trees, resamples and shuffles, where only the form of the answers is tested."""
    for name, value in {"TREES": 8, "RESAMPLED_TREES": 2, "RESAMPLES": 2, "SHUFFLES": 2}.items():
        monkeypatch.setattr(f"analysis.sections.importance.scores.{name}", value)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_parameter_that_alone_decides_is_found_by_both(mode):
    trials = trials_of(40)
    parameters = parameters_of("cross_entropy", trials)
    rate = positions(parameters, trials)[:, 0]
    scores = rate if mode == "max" else -rate
    table = importances(parameters, trials, scores, mode)
    for evaluator in (FANOVA, PED_ANOVA):
        part = table[table["evaluator"] == evaluator].set_index("parameter")
        assert part["importance"].sum() == pytest.approx(1, abs=0.1 if evaluator == FANOVA else 1e-9)
        assert part.at["optimizer.lr", "importance"] > 0.7
        assert part["stands_out"].to_dict() == {"optimizer.lr": True, "optimizer.weight_decay": False}
    assert (table["low"] <= table["high"]).all()
    pd.testing.assert_frame_equal(table, importances(parameters, trials, scores, mode))


@pytest.mark.parametrize("seed", range(3))
def test_fanova_of_numbers_is_that_of_optuna(seed):
    rng = np.random.default_rng(seed)
    cube = rng.uniform(size=(30, 3))
    scores = cube[:, 0] * cube[:, 1] + 0.1 * rng.normal(size=30)
    study = optuna.create_study()
    distributions = {name: optuna.distributions.FloatDistribution(0, 1) for name in "abc"}
    for row, score in zip(cube, scores, strict=True):
        point = dict(zip("abc", row, strict=True))
        study.add_trial(optuna.create_trial(params=point, distributions=distributions, value=score))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=8, seed=seed)
    expected = evaluator.evaluate(study)
    assert fanova(cube, [0, 0, 0], scores, 8, seed) == pytest.approx([expected[name] for name in "abc"], abs=1e-6)


def test_fanova_of_a_choice_weighs_its_options_equally():
    """Each of three options has its score; the number next to it has no influence."""
    option = np.repeat([0, 1, 2], 10)
    cube = np.column_stack([option / 2, np.tile(np.linspace(0, 1, 10), 3)])
    assert fanova(cube, [3, 0], np.array([0.2, 0.5, 0.9])[option], 8, 0) == pytest.approx([1, 0], abs=1e-9)
    assert fanova(cube, [3, 0], np.zeros(30), 8, 0).tolist() == [0, 0]


def test_some_at_random_stand_for_many_trials(monkeypatch):
    """No estimate uses more trials than the limit; the deciding parameter is found, each time with the same seed."""
    sizes = []
    real = optuna.importance.get_param_importances
    monkeypatch.setattr("analysis.sections.importance.scores.MOST_TRIALS", 40)
    monkeypatch.setattr(
        "analysis.sections.importance.scores.get_param_importances",
        lambda study, **options: sizes.append(len(study.trials)) or real(study, **options),
    )
    trials = trials_of(120)
    parameters = parameters_of("cross_entropy", trials)
    scores = positions(parameters, trials)[:, 0]
    table = importances(parameters, trials, scores, "max", seed=3)
    assert set(sizes) == {40}
    assert set(table[table["stands_out"]]["parameter"]) == {"optimizer.lr"}
    pd.testing.assert_frame_equal(importances(parameters, trials, scores, "max", seed=3), table)


def test_scores_without_a_cause_rarely_stand_out():
    trials = trials_of(16)
    parameters = parameters_of("cross_entropy", trials)
    marked = []
    for seed in range(2):
        scores = np.random.default_rng(seed).normal(size=16)
        table = importances(parameters, trials, scores, "max", seed)
        marked += [bool(part["stands_out"].any()) for _, part in table.groupby("evaluator")]
    assert sum(marked) <= 1


# Expected validation performance


def test_the_expected_best_of_four_is_known():
    curve = expected_performance(np.array([3.0, 1.0, 4.0, 2.0]), "max")
    assert curve["expected"].tolist() == pytest.approx([2.5, 20 / 6, 3.75, 4])
    assert curve["deviation"].iloc[1] == pytest.approx(np.std([2, 3, 4, 3, 4, 4]))
    assert curve["band"].tolist() == [True, True, False, False]
    assert sufficient_trials(curve, 0.3) == 3
    smallest = expected_performance(np.array([3.0, 1.0, 4.0, 2.0]), "min")
    assert smallest["expected"].tolist() == pytest.approx([2.5, 10 / 6, 1.25, 1])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=7))
def test_the_expected_best_is_the_mean_over_all_subsets(scores):
    curve = expected_performance(np.array(scores), "max")
    for n, expected in zip(curve["trials"], curve["expected"], strict=True):
        best = [max(chosen) for chosen in combinations(scores, n)]
        assert expected == pytest.approx(np.mean(best), abs=1e-9)


def test_many_trials_do_not_overflow():
    curve = expected_performance(np.linspace(0, 1, 2000), "max")
    assert np.isfinite(curve[["expected", "deviation"]].to_numpy()).all()
    assert curve["expected"].is_monotonic_increasing
    assert curve["expected"].iloc[0] == pytest.approx(0.5)


def test_the_trials_that_were_enough_are_one_sentence():
    curve = expected_performance(np.linspace(0.5, 0.6, 10), "max").assign(noise="noisy-A", space="elr")
    (sentence,) = expected_sentences(curve, Score("val/uar"))
    enough = sufficient_trials(curve, 0.01)
    expected = f"Trials whose expected best is within 1 point of that of all: {enough} of 10 with ELR at noisy-A."
    assert sentence == expected
    assert expected_sentences(curve.head(9), Score("val/uar")) == []  # too few


# Sentences


def importance_of(space, fanova, ped_anova):
    """Importances of two parameters by both measures, above chance where they are above .5."""
    rows = [
        {"evaluator": evaluator, "parameter": name, "importance": value, "stands_out": value > 0.5}
        for evaluator, values in ((FANOVA, fanova), (PED_ANOVA, ped_anova))
        for name, value in zip(("loss.exp_base", "optimizer.lr"), values, strict=True)
    ]
    return pd.DataFrame(rows).assign(noise="noisy-A", space=space, trials=20)


def test_parameters_that_mattered_are_named_and_searches_without_any_are_one_sentence():
    both = importance_of("proselflc", (0.9, 0.6), (0.8, 0.1))
    none = [importance_of(space, (0.1, 0.1), (0.2, 0.2)) for space in ("elr", "focal")]
    first, second = importance_sentences(pd.concat([both, *none], ignore_index=True))
    assert first == (
        "ProSelfLC at noisy-A, 20 trials: exp_base (steepness B) mattered by both measures (fANOVA 0.90, PED-ANOVA "
        "0.80) and lr mattered by fANOVA alone (0.60)."
    )
    assert second == "No parameter stands out from shuffled scores: ELR at noisy-A and focal loss at noisy-A."
    assert importance_sentences(pd.DataFrame()) == []


def test_values_near_a_bound_are_one_sentence():
    row = {"noise": "clean", "space": "elr", "parameter": "optimizer.lr", "value": 0.0003, "low": 3e-4, "high": 0.01}
    narrow = pd.DataFrame([{**row, "wider_low": 3e-4, "wider_high": 0.01}])
    assert bound_sentences(narrow) == ["Near a bound of its searched range is lr 0.0003 of ELR at clean."]
    (sentence,) = bound_sentences(pd.concat([narrow.assign(wider_low=1e-4)] * 9, ignore_index=True))
    assert sentence.endswith("and 5 more in the table. The table has wider ranges to search.")
    assert bound_sentences(pd.DataFrame()) == []


# Smoothing


def test_the_kernel_mean_keeps_a_constant_and_is_silent_far_from_all_trials():
    points = np.array([[0.0, 0.0], [0.1, 0.1], [0.0, 0.1]])
    values = kernel_mean(points, np.full(3, 0.7), np.array([[0.05, 0.05], [1.0, 1.0]]))
    assert values[0] == pytest.approx(0.7)
    assert np.isnan(values[1])


# The command


@pytest.fixture(scope="module")
def searched(new_made_store):
    store = new_made_store()
    rng = np.random.default_rng(0)
    skills = {
        ("proselflc", "noisy-A"): rng.uniform(0.3, 0.9, 11).tolist(),
        ("cross_entropy", "noisy-A"): rng.uniform(0.3, 0.9, 11).tolist(),
        ("proselflc", "noisy-B"): [0.5, 0.8],
    }
    store.search(skills, stopped=1)
    return store


@pytest.mark.usefixtures("small_forests")
def test_the_section_says_what_is_known_and_what_is_not(searched):
    found = section(searched.records(), Options())
    assert {table.name for table in found.tables} >= {"importance", "expected_best"}
    assert {figure.name for figure in found.figures} == {
        "importance", "expected_best", "slices", "contours", "parallel",
    }  # fmt: skip
    (table,) = (table for table in found.tables if table.name == "importance")
    assert set(zip(table.data["noise"], table.data["space"], strict=True)) == {("noisy-A", "proselflc")}
    (few,) = (line for line in found.missing if "study made has 1 (noisy-B, ProSelfLC)" in line)
    command = ["python", "study/run.py", "--resume", "--name", "made", "--tracking-uri", searched.uri]
    assert shlex.split(few.partition("To add trials: ")[2])[:7] == command
    assert few.endswith("--trials 10")
    assert any("Fewer than two parameters differ" in line and "cross entropy" in line for line in found.missing)
    assert any("3 stopped" in note for note in found.notes)
    assert "nan" not in " ".join([*found.sentences, *found.notes, *found.missing]).replace("fANOVA", "")


@pytest.mark.usefixtures("small_forests")
def test_the_command_writes_its_files_and_knows_its_spaces(searched, tmp_path, call_section):
    options = ["--tracking-uri", searched.uri, "--output", str(tmp_path / "out"), "--space"]
    assert call_section("importance", *options, "proselflc")[0] == 0
    assert {"importance.csv", "expected_best.tex", "slices.pdf", "parallel.png", "contours.svg"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    code, _, error = call_section("importance", *options, "proselfl")
    assert code == 2
    assert "Did you mean 'proselflc'" in error


def test_a_parameter_with_one_value_places_all_trials_at_its_start():
    assert Parameter("a.x", 1.0, 1.0).positions(["1", "1"]).tolist() == [0, 0]
