"""Operations that torch 2.13 refuses on a GPU where only deterministic algorithms are allowed."""

from tests.helpers.fake_cuda import Call

REFUSED = {
    "_adaptive_avg_pool2d_backward", "_ctc_loss_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward",
    "bincount", "grid_sampler_2d_backward", "histc", "kthvalue", "max_unpool2d", "median", "nll_loss2d_forward", "put_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
}  # fmt: skip
"""Of the list in ``torch.use_deterministic_algorithms`` those that code here might come to use."""


def refused(calls: list[Call]) -> set[str]:
    """Return which operations would be refused; cumulative sums of floats are, those of integers are not."""
    sums = {call.name for call in calls if call.name.startswith("aten.cumsum") and "float" in call.dtypes[0]}
    return sums | {call.name for call in calls if call.name.split(".")[1] in REFUSED}
