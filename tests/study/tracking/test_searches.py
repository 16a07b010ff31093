"""Tests of ranking: which trial is the best of its level and space, and how it is shown."""

import pandas as pd

from study.schema import FAILED, FINISHED, SELECTIONS, STOPPED
from study.tracking.best_table import short_parameters, text_table
from study.tracking.searches import Trials, best_runs, caveats


def trial(noise, space, number, selected, status=FINISHED, rate=0.0):
    return {
        "noise": noise, "rate": rate, "space": space, "study": "s", "trial": f"{number:03d}", "status": status,
        "failure": "", "selected": selected, "uar": selected, "uar_best_epoch": selected, "best_epoch": 3.0,
        "wa": 0.5, "f1_weighted": 0.5, "f1_macro": 0.5, "ece": 0.1, "parameters": {"optimizer.lr": "0.001"},
        "planned": 1, "start": number, "run_id": f"{noise}{space}{number}",
    }  # fmt: skip


def ranked(rows, selection="noisy", top=1):
    trials = Trials(pd.DataFrame(rows), SELECTIONS[selection], chance=0.25, others=0)
    return trials, best_runs(trials, top)


def test_the_best_is_chosen_among_finished_trials_only():
    rows = [
        trial("noisy-B", "a", 1, 0.30, rate=0.4),
        trial("noisy-B", "a", 2, 0.90, FAILED, rate=0.4),
        trial("noisy-B", "a", 3, 0.80, STOPPED, rate=0.4),
        trial("noisy-B", "a", 4, 0.40, rate=0.4),
        trial("clean", "a", 5, 0.60),
    ]
    _, best = ranked(rows)
    assert list(best["noise"]) == ["clean", "noisy-B"]
    assert list(best["trial"]) == ["005", "004"]
    assert best.loc[1, [FINISHED, FAILED, STOPPED]].tolist() == [2, 1, 1]


def test_a_cross_entropy_is_best_when_smallest_and_ties_go_to_the_earlier():
    rows = [trial("clean", "a", 1, 1.5), trial("clean", "a", 2, 1.2), trial("clean", "a", 3, 1.2)]
    _, best = ranked(rows, "soft", top=2)
    assert list(best["trial"]) == ["002", "003"]
    assert list(best["rank"]) == [1, 2]


def test_a_level_without_a_finished_trial_is_shown_empty():
    trials, best = ranked([trial("clean", "a", 1, None, FAILED), trial("clean", "b", 2, 0.4)])
    text = text_table(best, trials.selection)
    assert list(text["trial"]) == ["none", "002"]
    assert text.loc[0, "val UAR"] == "–"
    assert any("Unequal budgets at clean: a 0, b 1" in line for line in caveats(trials, best))


def test_equal_budgets_are_not_mentioned():
    trials, best = ranked([trial("clean", "a", 1, 0.3), trial("clean", "b", 2, 0.4)])
    assert len(caveats(trials, best)) == 1


def test_parameters_are_short():
    assert short_parameters({"optimizer.lr": "0.00123456", "loss.temperature.kind": "linear"}) == (
        "temperature.kind=linear, lr=0.00123"
    )
