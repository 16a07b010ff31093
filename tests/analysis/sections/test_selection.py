"""Choices by other labels and at other levels: numbers known by hand, what cannot be answered, and the command line."""

import numpy as np
import pandas as pd
import pytest

from analysis.sections.selection.label_choice import (
    agreements,
    best_by,
    regrets,
    shared_scores,
    spearman_interval,
    transfers,
)
from analysis.sections.selection.section import Options, choice_sentences, section, transfer_sentences
from study.schema import SELECTIONS

NOISY, SOFT = SELECTIONS["noisy"], SELECTIONS["soft"]


def trials_of(uar, noisy, soft=None, rates=None, space="cross_entropy"):
    """Finished trials by their scores, the earliest first."""
    count = len(uar)
    rates = rates or [f"0.00{number + 1}" for number in range(count)]
    return pd.DataFrame(
        {
            "space": space, "trial": [f"{number:03d}" for number in range(1, count + 1)], "start": range(count),
            "run_id": [f"r{number}" for number in range(1, count + 1)], "uar": uar, "uar_noisy": noisy,
            "soft_ce": soft if soft is not None else [np.nan] * count, "selected": noisy,
            "parameters": [{"optimizer.lr": rate} for rate in rates],
        }
    )  # fmt: skip


def test_the_regret_of_four_trials_is_known():
    trials = trials_of([0.5, 0.7, 0.6, 0.4], [0.3, 0.4, 0.5, 0.2], [1.0, 1.2, 1.1, 0.9])
    table = regrets(trials, {"r3": 0.55}).set_index("by")
    assert table["trial"].to_dict() == {"noisy": "003", "clean": "002", "soft": "004"}
    assert table["regret"].to_dict() == pytest.approx({"noisy": 0.1, "clean": 0.0, "soft": 0.3})
    assert table["random"].tolist() == pytest.approx([0.15] * 3)
    assert table.at["noisy", "test_uar"] == 0.55
    assert np.isnan(table.at["soft", "test_uar"])


def test_equals_are_chosen_by_time_and_labels_that_scored_not_all_are_left_out():
    trials = trials_of([0.5, 0.6, 0.7], [0.4, 0.4, 0.3], [1.0, np.nan, 1.1])
    assert best_by(trials, NOISY) == 0
    assert list(regrets(trials, {})["by"]) == ["noisy", "clean"]
    assert best_by(trials_of([0.5], [0.4]), SOFT) is None
    assert regrets(trials_of([], []), {}).empty


def test_rankings_agree_or_are_turned_round():
    uar = [0.1, 0.2, 0.3, 0.4, 0.5]
    table = agreements(trials_of(uar, uar, [1, 2, 3, 4, 5])).set_index("by")
    assert table["spearman"].to_dict() == pytest.approx({"noisy": 1.0, "soft": -1.0})  # a small cross entropy is good
    assert table["kendall"].to_dict() == pytest.approx({"noisy": 1.0, "soft": -1.0})
    assert table["same"].to_dict() == {"noisy": True, "soft": False}
    assert agreements(trials_of(uar[:3], uar[:3])).empty
    assert agreements(trials_of(uar, [0.3] * 5)).empty


def test_the_interval_of_a_correlation_holds_it_and_repeats():
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    low, high = spearman_interval(x, y, 0)
    assert low < pd.Series(x).corr(pd.Series(y), method="spearman") < high < 1
    assert (low, high) == spearman_interval(x, y, 0)


def test_a_choice_is_found_at_the_other_level_or_near_or_not_at_all():
    a = trials_of([0.5, 0.6], [0.5, 0.6], rates=["0.001", "0.002"])
    b = trials_of([0.3, 0.5, 0.4], [0.3, 0.2, 0.4], rates=["0.0021", "0.001", "0.008"])
    table = transfers("cross_entropy", {"a": a, "b": b}, NOISY, "uar").set_index(["from", "to"])
    there, back = table.loc[("a", "b")], table.loc[("b", "a")]
    assert (there["match"], there["shared"], there["trial"]) == ("nearest", 1, "002")
    # lr from .0003 to .01 on a logarithmic scale
    assert there["distance"] == pytest.approx(np.log(2.1 / 2) / np.log(0.01 / 0.0003))
    assert (there["moved"], there["own"], there["difference"]) == pytest.approx((0.3, 0.4, -0.1))
    assert back["match"] == "none near"
    assert np.isnan(back["moved"])
    a.loc[1, "parameters"]["optimizer.lr"] = "0.008"
    there = transfers("cross_entropy", {"a": a, "b": b}, NOISY, "uar").set_index(["from", "to"]).loc[("a", "b")]
    assert (there["match"], there["distance"], there["difference"]) == ("same", 0, 0)


def test_shared_configurations_are_paired():
    a = trials_of([0.5, 0.6, 0.7], [0, 0, 0], rates=["1", "2", "2"])
    b = trials_of([0.1, 0.2], [0, 0], rates=["2", "3"])
    assert shared_scores(a, b, "uar").to_numpy().tolist() == [[0.6, 0.1]]


def test_the_section_of_two_levels(made_store):
    made_store.search(
        {(space, noise): [0.4, 0.9, 0.6, 0.5] for space in ("proselflc", "elr") for noise in ("noisy-A", "noisy-B")}
    )
    found = section(made_store.records(), Options())
    (table,) = (table for table in found.tables if table.name == "selection")
    # Two spaces and both together, two levels, three selection rules.
    assert len(table.data) == 3 * 2 * 3
    assert (table.data["regret"] >= 0).all()
    assert set(table.text["chosen by"]) == {"noisy labels", "votes"}  # the oracle chooses the best by definition
    assert set(table.text["method"]) == {"all methods", "ProSelfLC", "ELR"}
    assert {figure.name for figure in found.figures} == {"selection", "transfer"}
    assert "nan" not in " ".join([*found.sentences, *found.missing])


def choices(*rows):
    """Choices among all methods: noise level, regret of the noisy labels, whether these are the true ones."""
    columns = ["noise", "regret", "same"]
    return pd.DataFrame(rows, columns=columns).assign(by="noisy", space="all", trials=4, random=0.05)


def test_what_choosing_by_noisy_labels_costs_is_one_sentence():
    (sentence,) = choice_sentences(choices(("noisy-A", 0.021, False), ("noisy-B", 0.0, False)), "noisy")
    assert "loses 2.1 points of UAR at noisy-A (a random choice 5.0) and 0.0 points of UAR at noisy-B" in sentence
    (sentence,) = choice_sentences(choices(("noisy-A", 0.0, False), ("noisy-B", 0.0, np.nan)), "noisy")
    assert sentence == "The trial chosen by noisy labels is also the best one by true labels, at noisy-A and noisy-B."
    (sentence,) = choice_sentences(choices(("clean", 0.0, True)), "noisy")
    assert "same score" in sentence


@pytest.mark.parametrize(
    ("differences", "sentence"),
    [
        ([0.0] * 6, "Every choice that was tried at another noise level did exactly as well there as the own choice."),
        ([0.02, 0.01, -0.03, 0.0], "1 did as well there as the own choice, 2 did better (by 2.0 points at most) and 1 "
         "did worse (by 3.0 points at most)."),
    ],
)  # fmt: skip
def test_choices_at_other_levels_are_counted_by_the_sign_of_their_difference(differences, sentence):
    (found,) = transfer_sentences(pd.DataFrame({"match": "same", "difference": differences}))
    assert found.endswith(sentence)
    assert transfer_sentences(pd.DataFrame({"match": ["none near"], "difference": [np.nan]})) == []


def test_one_level_and_one_trial_say_what_is_missing(made_store, call_section, tmp_path):
    made_store.search({("elr", "noisy-A"): [0.5, 0.5], ("focal", "noisy-A"): [0.4]}, stopped=1)
    found = section(made_store.records(), Options())
    assert found.is_empty
    assert any("one finished trial" in line for line in found.missing)
    assert any("No trial has finished: noisy-A, focal loss" in line for line in found.missing)
    assert any("--noise clean noisy-A noisy-B" in line for line in found.missing)
    made_store.search({("elr", "noisy-A"): [0.5, 0.8, 0.6, 0.7]}, study="more")
    where = ["--tracking-uri", made_store.uri, "--output", str(tmp_path / "out")]
    assert call_section("selection", *where)[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "selection.csv", "selection.md", "selection.tex", "selection.pdf",
    }  # fmt: skip
    code, _, error = call_section("selection", *where, "--experiment", "mad")
    assert code == 2
    assert "Did you mean 'made'" in error
