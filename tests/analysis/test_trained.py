"""Tests of what the report says was trained."""

from types import SimpleNamespace

from analysis.page.trained import _noise_rates


def test_noise_levels_are_in_the_order_of_their_rates_and_unknown_rates_are_left_out():
    rates = {"noisy-B": "0.4019", "clean": "0.0", "human": "", "noisy-A": "0.26393442622950819", "old": "None"}
    runs = [
        SimpleNamespace(data=SimpleNamespace(tags={"noise": level, "noise.rate": rate}))
        for level, rate in rates.items()
    ]
    assert _noise_rates(runs) == "clean 0.0%, noisy-A 26.4%, noisy-B 40.2%"
