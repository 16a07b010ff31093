"""The eight features: answers known by hand, and what must hold for every signal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from ser.features.handcrafted import (
    FRAME,
    HOP,
    NAMES,
    autocorrelation,
    centre_clip,
    frame_rms,
    handcrafted,
    harmonic_part,
    running_median,
)

RATE = 16000


def named(signal):
    return dict(zip(NAMES, handcrafted(signal), strict=True))


def tone(frequency=1000.0, amplitude=0.5, seconds=2.0):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)


def noise(seed, samples=RATE):
    return np.random.default_rng(seed).normal(0, 0.1, samples)


# Answers known by hand.


def test_a_sine_has_the_known_mean_magnitude_deviation_and_rms_and_no_pause():
    found = named(tone())
    assert found["mean_magnitude"] == pytest.approx(0.5 * 2 / np.pi, rel=0.02)
    assert found["deviation"] == pytest.approx(0.5 / np.sqrt(2))
    assert np.median(frame_rms(tone())) == pytest.approx(0.5 / np.sqrt(2))
    assert found["pause_share"] == 0


def test_a_sine_is_harmonic_and_a_click_is_not():
    sine, click = tone(), np.zeros(2 * RATE)
    click[RATE] = 1.0
    inner = slice(RATE // 2, -RATE // 2)
    assert np.abs(harmonic_part(sine) - sine)[inner].max() < 1e-3
    assert np.abs(harmonic_part(click)).max() < 1e-9


def test_a_constant_has_the_known_autocorrelation_and_harmonic_mean():
    level, samples = 0.2, 4 * RATE
    found = named(np.full(samples, level))
    clipped = 0.55 * level  # less 45 % of the mean magnitude
    assert found["mean_magnitude"] == pytest.approx(level)
    assert found["deviation"] == pytest.approx(0, abs=1e-12)
    # The lags' sums fall in a straight line from samples · clipped² to clipped².
    assert found["autocorrelation_maximum"] == pytest.approx(1000 * clipped**2)
    assert found["autocorrelation_deviation"] == pytest.approx(clipped**2 * np.sqrt((samples**2 - 1) / 12))
    assert found["harmonic_mean"] == pytest.approx(1000 * level, rel=0.03)


def test_the_silence_between_bursts_is_a_pause():
    signal = np.zeros(64 * HOP)
    for start in (8, 40):  # two bursts of an eighth each
        signal[start * HOP : (start + 8) * HOP] = tone()[: 8 * HOP]
    # Of the 65 frames, of four hops each, 11 overlap a burst of eight hops by a hop or more: half its RMS, or more,
    # where the mean over all frames is less than a third of it.
    rms = frame_rms(signal)
    heard = sum(value > 0.4 * rms.mean() for value in rms)
    assert heard == 2 * 11
    assert named(signal)["pause_share"] == pytest.approx(1 - 22 / 65)


def test_digital_silence_is_one_pause_and_nothing_else():
    found = named(np.zeros(RATE))
    assert found.pop("pause_share") == 1
    assert set(found.values()) == {0.0}


def test_centre_clipping_moves_towards_zero_by_its_share_of_the_mean_magnitude():
    np.testing.assert_allclose(centre_clip(np.array([1.0, -3.0, 0.5, -0.5, 0.0])), [0.55, -2.55, 0.05, -0.05, 0.0])


def test_frames_are_centred_with_zeros_beyond_the_ends():
    ones = frame_rms(np.ones(4 * FRAME))
    assert len(ones) == 4 * FRAME // HOP + 1
    np.testing.assert_allclose(ones[[0, 1, 2, 8]], np.sqrt([0.5, 0.75, 1, 1]))


def test_a_signal_of_another_shape_is_refused():
    for wrong in (np.zeros(0), np.zeros((2, 100))):
        with pytest.raises(ValueError, match="samples"):
            handcrafted(wrong)


# What must hold for every signal.


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000))
def test_the_autocorrelation_is_its_definition(seed, samples):
    signal = noise(seed, samples)
    np.testing.assert_allclose(autocorrelation(signal), np.correlate(signal, signal, "full")[samples - 1 :], atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60))
def test_the_running_median_is_that_of_two_dimensions(seed, rows, columns):
    values = np.random.default_rng(seed).normal(size=(rows, columns))
    expected = median_filter(np.pad(values, ((0, 0), (15, 15)), mode="symmetric"), size=(1, 31))[:, 15:-15]
    np.testing.assert_array_equal(running_median(values), expected)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20000), st.floats(1e-3, 1e3))
def test_loudness_scales_the_features_by_its_power_and_leaves_the_pauses(seed, samples, factor):
    signal = noise(seed, samples)
    powers = np.array([1, 1, 1, 1, 0, 1, 2, 2])
    np.testing.assert_allclose(
        handcrafted(factor * signal), handcrafted(signal) * factor**powers, rtol=1e-6, atol=1e-12
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20000))
def test_the_other_polarity_turns_the_harmonic_mean_alone(seed, samples):
    signs = np.array([1, 1, 1, 1, 1, -1, 1, 1])
    signal = noise(seed, samples)
    np.testing.assert_allclose(handcrafted(-signal), handcrafted(signal) * signs, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20000))
def test_every_feature_is_finite_and_single_precision_is_enough(seed, samples):
    signal = noise(seed, samples)
    found = handcrafted(signal)
    assert np.isfinite(found).all()
    assert 0 <= found[NAMES.index("pause_share")] <= 1
    assert found[NAMES.index("autocorrelation_maximum")] >= 0
    np.testing.assert_allclose(handcrafted(signal.astype(np.float32)), found, rtol=1e-3, atol=1e-4)


def test_a_harmonic_part_has_no_more_energy_than_its_signal():
    for seed in range(3):
        signal = noise(seed) + tone(seconds=1.0)
        part = harmonic_part(signal)
        assert part.shape == signal.shape
        assert (part**2).sum() <= (signal**2).sum()
