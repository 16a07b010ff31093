"""Interval of a UAR where networks and test speakers are crossed."""

import numpy as np
import pytest

from ser.metrics.intervals import crossed_interval


def logistic(values):
    return 1 / (1 + np.exp(-values))


def counts_of(rng, networks, speakers, network, speaker, both, utterances=6, classes=4):
    """Return right predictions; networks, speakers and their pairs differ by these standard deviations (logits)."""
    skill = rng.normal(0, network, (networks, 1, 1)) + rng.normal(0, speaker, (1, speakers, 1))
    skill = skill + rng.normal(0, both, (networks, speakers, 1)) + np.linspace(-0.5, 1, classes)
    return rng.binomial(utterances, logistic(skill)), np.full((speakers, classes), utterances)


def test_the_estimate_is_the_mean_of_the_recalls_of_the_classes_that_occur():
    right = np.array([[[2, 0, 0], [1, 3, 0]], [[2, 1, 0], [1, 2, 0]]])
    found = crossed_interval(right, np.array([[2, 1, 0], [2, 4, 0]]))
    assert found.estimate == pytest.approx(((6 / 8) + (6 / 10)) / 2)
    assert (found.networks, found.speakers) == (2, 2)


def test_equal_networks_and_speakers_have_no_spread():
    found = crossed_interval(np.full((3, 4, 2), 5), np.full((4, 2), 10))
    assert (found.low, found.estimate, found.high) == (0.5, 0.5, 0.5)


def test_one_network_gives_an_interval_over_speakers_that_is_that_of_a_mean():
    right = np.array([[[3], [5], [6], [7], [9], [6]]])
    found = crossed_interval(right, np.full((6, 1), 10))
    rates = right[0, :, 0] / 10
    reach = 2.571 * rates.std(ddof=1) / np.sqrt(6)  # t with 5 degrees of freedom
    assert found.high - found.estimate == pytest.approx(reach, rel=0.05)
    assert found.estimate - found.low == pytest.approx(reach, rel=0.05)


def test_speakers_that_all_networks_find_hard_widen_it_as_do_networks_that_all_speakers_find_bad():
    rng = np.random.default_rng(1)
    widths = {}
    for name, spread in {"none": (0, 0), "networks": (1, 0), "speakers": (0, 1)}.items():
        found = crossed_interval(*counts_of(rng, 12, 12, *spread, 0))
        widths[name] = found.high - found.low
    assert widths["networks"] > 2 * widths["none"]
    assert widths["speakers"] > 2 * widths["none"]


def test_a_difference_without_one_has_zero_in_it_and_a_clear_one_has_not():
    rng = np.random.default_rng(2)
    one, total = counts_of(rng, 6, 12, 0.3, 0.8, 0.1)
    again = one[::-1]
    found = crossed_interval(one - again, total)
    assert found.low < found.estimate < found.high
    assert found.low < 0 < found.high
    clear = crossed_interval(np.minimum(one + 2, 6) - one, total)
    assert clear.low > 0


def test_one_network_and_one_speaker_have_no_interval():
    found = crossed_interval(np.array([[[1, 2]]]), np.array([[2, 2]]))
    assert found.estimate == 0.75
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("networks", "speakers"), [(5, 24), (24, 5), (8, 60), (5, 5)])
@pytest.mark.parametrize("spread", [(0.15, 0.5, 0.3), (0.4, 0.1, 0.1), (0.3, 0.3, 0.0)])
def test_intervals_cover_the_mean_over_networks_and_speakers(networks, speakers, spread):
    rng = np.random.default_rng(0)
    skill = rng.normal(0, np.sqrt(np.square(spread).sum()), (200_000, 1)) + np.linspace(-0.5, 1, 4)
    true = logistic(skill).mean()
    covered = []
    for repetition in range(200):
        found = crossed_interval(*counts_of(rng, networks, speakers, *spread), seed=repetition)
        covered.append(found.low <= true <= found.high)
    assert np.mean(covered) >= 0.9
