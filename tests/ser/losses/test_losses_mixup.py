import numpy as np
import pytest
import torch

from ser.losses import Loss, Mixing, Mixup, build_loss
from ser.utils.errors import UserError


def shares(alpha: float, count: int = 4000) -> list[float]:
    loss, rng = Mixup(alpha), np.random.default_rng(0)
    return [loss.mixing(2, rng).share for _ in range(count)]  # type: ignore[union-attr]


def test_values_are_mixed_with_those_of_the_partners() -> None:
    mixing = Mixing(0.75, torch.tensor([1, 2, 0]))
    assert mixing(torch.tensor([[0.0, 4.0], [8.0, 4.0], [4.0, 0.0]])).tolist() == [[2, 4], [7, 3], [3, 1]]
    assert mixing(torch.tensor([1.0, 2.0, 5.0])).tolist() == [1.25, 2.75, 4.0]


def test_a_share_in_a_tensor_gives_what_the_number_gives_to_the_bit() -> None:
    values, partner = torch.randn(7, 30, generator=torch.Generator().manual_seed(0)), torch.arange(6, -1, -1)
    for share in shares(0.2, 20):
        held = torch.tensor([0.1, share], dtype=torch.float64)[1]
        for given in (values, values.double(), values.abs()[:, 0]):
            mixed = Mixing(held, partner)(given)
            assert torch.equal(mixed, Mixing(share, partner)(given))
            assert mixed.dtype == given.dtype


@pytest.mark.parametrize(
    ("alpha", "mean"),
    [
        (1.0, 3 / 4),  # λ is uniform, so the larger share is uniform on [1/2, 1]
        (2.0, 11 / 16),  # 2 ∫ over [1/2, 1] of λ · 6 λ (1 − λ)
        (1e-6, 1.0),
        (1e6, 0.5),
    ],
)
def test_the_larger_share_of_a_beta_distribution_is_the_samples(alpha: float, mean: float) -> None:
    drawn = shares(alpha)
    assert min(drawn) >= 0.5
    assert max(drawn) <= 1
    assert np.mean(drawn) == pytest.approx(mean, abs=4 * 0.15 / np.sqrt(4000))


def test_partners_are_a_permutation_of_the_batch_and_each_is_as_likely() -> None:
    loss, rng = Mixup(), np.random.default_rng(0)
    drawn = torch.stack([loss.mixing(4, rng).partner for _ in range(2000)])  # type: ignore[union-attr]
    assert torch.equal(drawn.sort(dim=1).values, torch.arange(4).expand(2000, 4))
    counts = torch.stack([(drawn == sample).double().mean(dim=0) for sample in range(4)])
    torch.testing.assert_close(counts, torch.full((4, 4), 0.25).double(), rtol=0, atol=4 * np.sqrt(0.25 * 0.75 / 2000))


def test_without_a_share_nothing_is_mixed_and_other_losses_mix_nothing() -> None:
    rng = np.random.default_rng(0)
    assert Mixup(alpha=0).mixing(4, rng) is None
    other: Loss = build_loss("cross_entropy", {}, 1, 1, 2)
    assert other.mixing(4, rng) is None


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), "much"])
def test_a_wrong_alpha_is_reported(alpha: object) -> None:
    with pytest.raises(UserError, match="alpha"):
        build_loss("mixup", {"alpha": alpha}, 1, 1, 2)
