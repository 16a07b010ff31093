"""The replay of searches on learning curves in benchmarks/laptop.py."""

import numpy as np
import pytest

from benchmarks.laptop import replay

RISING = np.linspace(0.1, 1.0, 9)


def test_without_a_scheduler_everything_is_trained_and_the_best_last_score_is_found() -> None:
    curves = np.stack([0.5 * RISING, RISING, RISING[::-1]])
    assert replay(curves, "none", 1) == (1, 27)


def test_halving_stops_what_is_worse_at_the_end_of_the_grace_period() -> None:
    """The second trial is below the first at epoch 3, where a third of the trials is kept."""
    assert replay(np.stack([RISING, 0.5 * RISING]), "asha", 3) == (0, 9 + 3)
    late = np.stack([np.full(9, 0.5), np.r_[np.full(3, 0.1), np.full(6, 0.9)]])
    assert replay(late, "asha", 3) == (0, 9 + 3)  # and misses what would have been better in the end
    assert replay(late, "none", 3) == (1, 18)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_equal_replays_are_equal_and_nothing_is_stopped_before_the_grace_period(scheduler: str) -> None:
    curves = np.random.default_rng(0).random((12, 9))
    best, trained = replay(curves, scheduler, 4)
    assert (best, trained) == replay(curves, scheduler, 4)
    assert 12 * 4 <= trained <= 12 * 9
    assert replay(curves, scheduler, 9)[1] == 12 * 9
