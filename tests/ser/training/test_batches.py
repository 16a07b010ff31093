from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ser.config import AugmentConfig
from ser.features.front_ends import FRONT_ENDS, SILENCE_DB
from ser.features.store import FeatureStore
from ser.training.batches import (
    crop_frames,
    draw_masks,
    gather,
    random_starts,
    segments,
    spec_augment,
    valid_frames,
)


def store_of(lengths: list[int]) -> FeatureStore:
    """Return a store of utterances whose every frame contains (row, position) in its first two bins."""
    frames = np.zeros((sum(lengths), 64), dtype=np.float32)
    frames[:, 0] = np.repeat(np.arange(len(lengths)), lengths)
    frames[:, 1] = np.concatenate([np.arange(length) for length in lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return FeatureStore(Path(), FRONT_ENDS["panns_16k"], frames, offsets, np.array([""] * len(lengths)))


@pytest.mark.parametrize(("seconds", "frames"), [(0.4, 40), (2.0, 200), (5.0, 500), (0.504, 50)])
@pytest.mark.parametrize("name", ["panns_16k", "panns_32k"])
def test_a_second_has_a_hundred_frames(name: str, seconds: float, frames: int) -> None:
    assert crop_frames(seconds, FRONT_ENDS[name]) == frames


def test_a_second_of_a_waveform_is_its_samples() -> None:
    assert crop_frames(2.5, FRONT_ENDS["waveform_16k"]) == 40_000


def test_a_waveform_is_followed_by_zeros() -> None:
    samples = np.arange(1, 8, dtype=np.float32)[:, None]
    store = FeatureStore(Path(), FRONT_ENDS["waveform_16k"], samples, np.array([0, 4, 7]), np.array(["", ""]))
    crops = gather(store, np.array([1, 0]), np.array([1, 0]), 5)
    assert crops[:, :, 0].tolist() == [[6, 7, 0, 0, 0], [1, 2, 3, 4, 0]]


def test_valid_frames_are_those_before_an_utterances_end() -> None:
    store, rows, starts = store_of([10, 4, 7]), np.array([2, 0, 1, 0]), np.array([1, 8, 0, 0])
    valid = valid_frames(store, rows, starts, 5)
    assert valid.tolist() == [5, 2, 4, 5]
    silent = (gather(store, rows, starts, 5) == SILENCE_DB).all(axis=2)
    assert ((~silent).sum(axis=1) == valid).all()


def test_crops_hold_their_frames_and_then_silence() -> None:
    crops = gather(store_of([10, 4, 7]), np.array([2, 0, 1]), np.array([1, 8, 0]), 5)
    assert crops.shape == (3, 5, 64)
    assert crops.dtype == np.float32
    assert crops[:, :, :2].tolist() == [
        [[2, 1], [2, 2], [2, 3], [2, 4], [2, 5]],
        [[0, 8], [0, 9], *[[SILENCE_DB] * 2] * 3],  # the next utterance's frames stay out
        [[1, 0], [1, 1], [1, 2], [1, 3], [SILENCE_DB] * 2],
    ]
    assert (crops[1, 2:] == SILENCE_DB).all()


def test_random_starts_reach_every_position_at_which_the_crop_fits_and_no_other() -> None:
    lengths = np.repeat([12, 10, 3], 200)
    starts = random_starts(lengths, 10, np.random.default_rng(0)).reshape(3, 200)
    assert [set(row) for row in starts.tolist()] == [{0, 1, 2}, {0}, {0}]


def test_random_starts_follow_their_generator() -> None:
    lengths = np.full(50, 100)
    one, same, other = (random_starts(lengths, 10, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (10, [0]),
        (20, [0, 10]),  # an exact multiple
        (23, [0, 10]),  # a rest of 3 is left out
        (24, [0, 10, 20]),  # a rest of 4 is kept
        (3, [0]),  # shorter than all, and kept
    ],
)
def test_segments_are_cut_as_worked_out_by_hand(length: int, expected: list[int]) -> None:
    cut = segments(np.array([length]), frames=10, shortest=4)
    assert cut.starts.tolist() == expected
    assert cut.owner.tolist() == [0] * len(expected)


def test_segments_know_their_utterance() -> None:
    cut = segments(np.array([25, 3, 10]), frames=10, shortest=4)
    assert cut.owner.tolist() == [0, 0, 0, 1, 2]
    assert cut.starts.tolist() == [0, 10, 20, 0, 0]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 20), st.data())
def test_segments_leave_out_less_than_the_shortest(lengths: list[int], frames: int, data: st.DataObject) -> None:
    shortest = data.draw(st.integers(1, frames))
    cut = segments(np.array(lengths), frames, shortest)
    assert set(cut.owner.tolist()) == set(range(len(lengths)))
    for row, length in enumerate(lengths):
        seen = np.zeros(length, dtype=int)
        for start in cut.starts[cut.owner == row]:
            assert start < length
            seen[start : start + frames] += 1
        assert seen[0] == 1
        assert (seen <= 1).all()
        assert (seen == 0).sum() < shortest


# SpecAugment, on crops of noise: no cell has the value of the mean by chance

CROPS = torch.rand((40, 100, 64), generator=torch.Generator().manual_seed(0))


def augmented(crops: torch.Tensor, config: AugmentConfig, seed: int = 0) -> torch.Tensor:
    return spec_augment(crops, *draw_masks(*crops.shape, config, torch.Generator().manual_seed(seed)))


def masked(config: AugmentConfig, seed: int = 0, crops: torch.Tensor = CROPS) -> NDArray[np.bool_]:
    return (augmented(crops, config, seed) != crops).numpy()


def stretches(line: NDArray[np.bool_]) -> int:
    return int((np.diff(line.astype(int), prepend=0) == 1).sum())


@pytest.mark.parametrize(
    ("config", "axis", "widest"),
    [
        (AugmentConfig(time_masks=2, time_mask_frames=9, frequency_masks=0), 1, 9),
        (AugmentConfig(time_masks=1, time_mask_frames=64, frequency_masks=0), 1, 25),  # a quarter of the crop
        (AugmentConfig(time_masks=0, frequency_masks=2, frequency_mask_bins=8), 2, 8),
        (AugmentConfig(time_masks=0, frequency_masks=1, frequency_mask_bins=100), 2, 64),
    ],
)
def test_masks_are_whole_stripes_of_at_most_their_number_and_width(
    config: AugmentConfig, axis: int, widest: int
) -> None:
    count = config.time_masks + config.frequency_masks
    hit = masked(config)
    lines = hit.any(axis=3 - axis)
    assert np.array_equal(hit, np.broadcast_to(np.expand_dims(lines, 3 - axis), hit.shape))
    sizes = lines.sum(axis=1)
    assert sizes.max() <= count * widest
    assert max(map(stretches, lines)) == count
    assert 0.3 < sizes.mean() / (count * widest) < 0.7  # widths are uniform from 0
    assert lines.any(axis=0).mean() > 0.9  # anywhere along the axis


def test_masks_have_every_width_and_reach_either_edge() -> None:
    crops = torch.rand((600, 20, 64), generator=torch.Generator().manual_seed(1))
    in_time = masked(AugmentConfig(time_masks=1, frequency_masks=0), crops=crops).all(axis=2)
    in_frequency = masked(AugmentConfig(time_masks=0, frequency_masks=1, frequency_mask_bins=4), crops=crops).all(
        axis=1
    )
    assert set(in_time.sum(axis=1)) == {0, 1, 2, 3, 4, 5}
    assert set(in_frequency.sum(axis=1)) == {0, 1, 2, 3, 4}
    assert in_time.any(axis=0).all()
    assert in_frequency.any(axis=0).all()


def test_masks_along_both_axes_come_together() -> None:
    hit = masked(AugmentConfig(time_masks=1, time_mask_frames=25, frequency_masks=1, frequency_mask_bins=8))
    in_time, in_frequency = hit.all(axis=2), hit.all(axis=1)
    assert np.array_equal(hit, in_time[:, :, None] | in_frequency[:, None, :])
    assert in_time.any()
    assert in_frequency.any()


def test_masks_hold_the_crops_own_mean() -> None:
    crops = CROPS * torch.arange(1, 41)[:, None, None]
    result = augmented(crops, AugmentConfig())
    hit = result != crops
    expected = crops.mean(dim=(1, 2), keepdim=True).expand_as(crops)
    assert torch.equal(result[hit], expected[hit])


def test_masks_follow_their_generator_and_differ_between_crops() -> None:
    one, same, other = (masked(AugmentConfig(), seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(time_masks=0, frequency_masks=0),
        AugmentConfig(time_mask_frames=0, frequency_mask_bins=0),
    ],
)
def test_without_masks_nothing_changes(config: AugmentConfig) -> None:
    assert not masked(config).any()


def test_the_input_is_left_as_it_was() -> None:
    crops = CROPS.clone()
    assert masked(AugmentConfig(), crops=crops).any()
    assert torch.equal(crops, CROPS)
