import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ser.features.front_ends import SILENCE_DB
from ser.features.store import FeatureStore
from ser.metrics import classification as evaluation
from ser.models import build_model
from ser.training import evaluation as segmented
from ser.training.device.features import DeviceFeatures
from ser.training.evaluation import SegmentedUtterances, predict, subset_metrics
from ser.training.task import Subset

CPU = torch.device("cpu")
FLOAT32 = torch.autocast("cpu", torch.bfloat16, enabled=False)


def predictions(
    model: torch.nn.Module, store: FeatureStore, rows: NDArray[np.int64], frames: int
) -> NDArray[np.float64]:
    return predict(model, SegmentedUtterances(DeviceFeatures(store, CPU), rows, frames), FLOAT32)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_model("cnn14", 2, 0.03)
    network.bn0.running_mean.fill_(-40.0)
    network.bn0.running_var.fill_(400.0)
    with torch.no_grad():
        network.head.weight.mul_(50)
    return network


def test_predictions_are_the_mean_over_an_utterances_segments(model: torch.nn.Module, store: FeatureStore) -> None:
    rows = np.array([4, 3, 0])
    assert store.lengths[rows].tolist() == [126, 53, 100]
    model.train()  # predict has to see to it
    probabilities = predictions(model, store, rows, 50)
    windows = {4: [(0, 50), (50, 100)], 3: [(0, 50)], 0: [(0, 50), (50, 100)]}
    with torch.no_grad():
        for row, found in zip(rows, probabilities, strict=True):
            parts = [torch.from_numpy(store.utterance(row)[begin:end].copy())[None] for begin, end in windows[row]]
            expected = torch.cat([model(part).double().softmax(dim=1) for part in parts])
            assert found == pytest.approx(expected.mean(dim=0).numpy(), abs=1e-6)
            if len(parts) == 2:
                assert not torch.allclose(expected[0], expected[1], atol=1e-4)


def test_a_short_utterance_is_predicted_with_silence_after_it(model: torch.nn.Module, store: FeatureStore) -> None:
    padded = np.full((1, 80, 64), SILENCE_DB, dtype=np.float32)
    padded[0, :53] = store.utterance(3)
    model.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(padded)).double().softmax(dim=1)[0].numpy()
    assert predictions(model, store, np.array([3]), 80)[0] == pytest.approx(expected, abs=1e-6)


def test_predictions_do_not_depend_on_batch_size_or_order(
    model: torch.nn.Module, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(len(store))
    whole = predictions(model, store, rows, 50)
    assert whole.shape == (24, 2)
    assert whole.sum(axis=1) == pytest.approx(np.ones(24))
    assert whole.std(axis=0).min() > 1e-3
    monkeypatch.setattr(segmented, "EVALUATION_BATCH", 5)
    assert predictions(model, store, rows, 50) == pytest.approx(whole, abs=1e-6)
    assert predictions(model, store, rows[::-1].copy(), 50)[::-1] == pytest.approx(whole, abs=1e-6)


PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
VOTES = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])


def part_of(truth: list[int], soft: np.ndarray | None) -> Subset:
    return Subset(
        np.arange(3), ("a", "b", "c"), np.array([0, 1, 1]), np.array(truth), soft, ("s",) * 3, ("female",) * 3
    )


def test_a_part_is_scored_against_truth_noise_and_annotators() -> None:
    metrics = subset_metrics("val", PROBABILITIES, part_of([0, 1, 0], VOTES))
    assert metrics["val/uar"] == 1.0
    assert metrics["val_noisy/uar"] == 0.75
    expected = -(math.log(0.9) + math.log(0.8) + 0.5 * math.log(0.6 * 0.4)) / 3
    assert metrics["val/soft_ce"] == pytest.approx(expected)
    assert metrics["val/nll"] == metrics["val/loss"] == pytest.approx(-math.log(0.9 * 0.8 * 0.6) / 3)
    assert metrics["val/jsd"] == evaluation.jensen_shannon(PROBABILITIES, VOTES)


@pytest.mark.parametrize(
    ("truth", "soft", "names"),
    [
        ([-1, -1, -1], None, {"test_noisy/uar"}),
        ([0, -1, 0], None, {"test_noisy/uar"}),  # some unknown is not all known
        ([-1, -1, -1], VOTES, {"test_noisy/uar", "test/soft_ce", "test/jsd", "test/f1_macro_votes"}),
    ],
)
def test_a_part_is_not_scored_against_what_is_unknown(
    truth: list[int], soft: np.ndarray | None, names: set[str]
) -> None:
    assert subset_metrics("test", PROBABILITIES, part_of(truth, soft)).keys() == names
