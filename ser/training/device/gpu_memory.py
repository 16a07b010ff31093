"""Memory of a GPU that several trials share: what a trial needs, its limit, and what happens when it is used up."""

from __future__ import annotations

import gc
from contextlib import suppress

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ser.config import Config
from ser.features.store import FeatureStore
from ser.training.batches import EVALUATION_BATCH, crop_frames
from ser.utils.errors import UserError

CONTEXT = 600_000_000
"""Bytes that a process takes outside torch's allocator: CUDA's context, its kernels, and the handles of libraries."""

WORKSPACE = 256_000_000
"""Bytes that cuDNN and cuBLAS take of torch's allocator for a step."""

STORE_SHARE = 0.1
"""Largest part of the free memory that the feature store takes."""

BYTES_PER_PARAMETER = 18
"""Weight, gradient and two moments of AdamW in float32, and the weight again in bfloat16."""

CLIPS_MEASURED = 2

_WORDS = ("CUDA error: out of memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def memory_needed(config: Config, store: FeatureStore, num_classes: int) -> int:
    """Estimate the memory that a training takes of a GPU, from a forward pass of two clips on the CPU.

    It is an upper bound for the activations, which are counted in float32, and a rough one for the rest.

    Args:
        config: Configuration of a network.
        store: Feature store that it reads.
        num_classes: Number of classes.

    Returns:
        Bytes of torch's allocator at the peak of a step or an evaluation, with room for the feature store, without
        ``CONTEXT``.
    """
    saved: dict[int, Tensor] = {}  # by address, since several operations keep the same activation

    def note(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.random.fork_rng(devices=[]):
        model = config.model.build(num_classes)
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        frames = crop_frames(config.training.crop_seconds, store.front_end)
        crops = torch.zeros(CLIPS_MEASURED, frames, store.frames.shape[1])
        lengths = torch.full((CLIPS_MEASURED,), frames) if model.masks_padding else None
        with saved_tensors_hooks(note, lambda tensor: tensor):
            output = model(crops, lengths)
    sizes = [one.untyped_storage().nbytes() for address, one in saved.items() if address not in weights]
    del output
    # A backward pass holds the gradients of a layer's input and output, and a temporary of that size; an evaluation
    # keeps nothing, and has a layer's input and output with a temporary, of more segments than a small batch has.
    largest = 3 * max(sizes, default=0)
    training, evaluation = (sum(sizes) + largest) * config.training.batch_size, largest * EVALUATION_BATCH
    activations = max(training, evaluation) // CLIPS_MEASURED
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return round((parameters * BYTES_PER_PARAMETER + activations + WORKSPACE) / (1 - STORE_SHARE))


def limit_memory(share: float) -> None:
    """Limit this process to its share of the memory of its GPU, before it allocates any; a whole GPU has no limit.

    Torch limits its allocator, and ``CONTEXT`` is outside it, so the limit is the share less ``CONTEXT``.

    Args:
        share: Share of the GPU, above 0 and at most 1.
    """
    if share < 1:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(max(share - CONTEXT / total, 0.0), 0)


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that this process can still allocate, within its limit.

    Args:
        device: The GPU.
    """
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    within_limit = int(torch.cuda.get_per_process_memory_fraction(device) * total) - allocated
    cached = torch.cuda.memory_reserved(device) - allocated
    return max(0, min(free + cached, within_limit))


def release_memory() -> None:
    """Return the memory that no tensor uses to the GPU, for other processes, and begin a new count of the peak.

    What still has memory is collected first: a network may be in a cycle of references, as the first one of a process
    is by an error within torch's own imports. That takes .25 s, so it is left out where only libraries can have any.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    with suppress(RuntimeError):  # after an error of the GPU every call fails; the first error is the one to report
        if torch.cuda.memory_allocated() > WORKSPACE:
            gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of a GPU is used up, whichever library says it.

    Args:
        error: Error of torch. CUDA's own, such as that of a context that finds no room, is a plain ``RuntimeError``.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA error: out of memory"))
        True
        >>> is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
        False
    """
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
    )


def out_of_memory(config: Config) -> UserError:
    """Return the error to raise where the memory of the GPU is used up: what asked for it, and what helps.

    Args:
        config: Configuration of the training.
    """
    return UserError(
        f"the GPU is out of memory{_share()} with model.width {config.model.width}, training.batch_size "
        f"{config.training.batch_size}, training.crop_seconds {config.training.crop_seconds}. Reduce one of them, or "
        "run fewer trials on a GPU (--gpus-per-trial)."
    )


def gigabytes(size: float) -> str:
    """Return a number of bytes in words.

    Example:
        >>> gigabytes(80e9), gigabytes(2.44e9)
        ('80 GB', '2.4 GB')
    """
    return f"{size / 1e9:.0f} GB" if size >= 10e9 else f"{size / 1e9:.1f} GB"


def _share() -> str:
    """Return the limit of this process in words; empty if it has none."""
    try:
        fraction = torch.cuda.get_per_process_memory_fraction()
        total = torch.cuda.get_device_properties(0).total_memory
    except (RuntimeError, AssertionError):  # no context, perhaps because it found no room
        return ""
    if fraction >= 1:
        return ""
    return f" ({gigabytes(fraction * total)} of {gigabytes(total)}, this trial's share of it)"
