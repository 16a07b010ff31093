"""Tensors that claim to lie on a GPU, and what happens to the operations on them; used by ``fake_cuda``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.fake_cuda import Call, FakeGpu

aten = torch.ops.aten
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")

# Operations whose result has a shape that depends on the data, or that check their data on the host.
WAITING = {
    *("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive", "bincount"),
    *("multinomial", "histogram", "_linalg_check_errors", "linalg_lstsq", "linalg_eig", "_linalg_eigh", "_linalg_svd"),
}
ITEMS = {"_local_scalar_dense", "equal", "allclose", "is_nonzero"}  # whose result is a Python number
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}

_active: list[FakeGpu] = []


class CudaTensor(Tensor):
    """Tensor on the fake GPU.

    Args:
        memory: Tensor on the CPU that holds the numbers.
    """

    _memory: Tensor
    _stream: Any
    _time: int
    recorded: set[Any]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, memory: Tensor) -> CudaTensor:
        made: CudaTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            memory.size(),
            strides=memory.stride(),
            storage_offset=memory.storage_offset(),
            dtype=memory.dtype,
            layout=memory.layout,
            device=GPU,
        )
        made._memory = memory
        made.is_made()
        return made

    def is_made(self) -> None:
        """Note which stream has computed the numbers, and when."""
        self._stream, self._time, self.recorded = torch.cuda.current_stream(), _active[-1].now, set()

    def check_stream(self) -> None:
        """Raise unless the current stream has waited for the numbers."""
        stream: Any = torch.cuda.current_stream()
        if self._stream is not stream and stream.waited.get(self._stream, 0) < self._time:
            raise RuntimeError("a tensor of another stream is used without an event that was waited for")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    # So that nn.Module.to keeps its parameters and swaps what they are.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["_memory"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> CudaTensor:
        return CudaTensor(inner["_memory"])

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, CudaTensor):
            raise RuntimeError("incompatible tensor type: a tensor on the GPU cannot be set to one on the CPU")
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self._memory = value._memory

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return self.detach().cpu().numpy()

    def record_stream(self, stream: Any) -> None:
        self.recorded.add(stream)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().cpu().__reduce_ex__(protocol)  # as read with map_location="cpu"

    def __repr__(self, **_: Any) -> str:
        return f"CudaTensor({self._memory})"


class OnGpu(TorchDispatchMode):
    """Sees operations without tensors too, such as ``torch.zeros(device="cuda")``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Do an operation, on the CPU if it is one on the GPU."""
    leaves = list(_leaves((*args, *kwargs.values())))
    target = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    on_gpu = [value for value in leaves if isinstance(value, CudaTensor)]
    if not on_gpu and target != "cuda":
        return func(*args, **kwargs)
    gpu, name = _active[-1], func.overloadpacket.__name__
    _log(gpu, func, name, leaves)
    if name in ("_to_copy", "copy_"):
        return _copy(gpu, name, func, args, kwargs)
    if name in ITEMS:
        gpu.wait("item", name)
    if name in INDEXING:
        args = _indices_on_gpu(gpu, name, args)
    else:
        _check_devices(name, leaves)
        if name in WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            gpu.wait("shape", name)
    wrapped = {id(tensor._memory): tensor for tensor in on_gpu}
    held = {key: _held(value) for key, value in kwargs.items()}
    if target == "cuda":
        held["device"] = CPU
    found = func(*map(_held, args), **held)
    return found if target == "cpu" else _on_gpu(found, wrapped)


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _held(value: Any) -> Any:
    """Return an argument with the memory of its tensors in their place."""
    if isinstance(value, CudaTensor):
        return value._memory
    return type(value)(map(_held, value)) if isinstance(value, list | tuple) else value


def _on_gpu(value: Any, wrapped: dict[int, CudaTensor]) -> Any:
    """Return a result with its tensors on the GPU; an operation in place returns its own argument."""
    if isinstance(value, Tensor):
        if id(value) not in wrapped:
            return CudaTensor(value)
        wrapped[id(value)].is_made()
        return wrapped[id(value)]
    return type(value)(_on_gpu(each, wrapped) for each in value) if isinstance(value, list | tuple) else value


def _log(gpu: FakeGpu, func: Any, name: str, leaves: list[Any]) -> None:
    numbers = tuple(value for value in leaves if isinstance(value, int | float) and not isinstance(value, bool))
    dtypes = tuple(str(value.dtype).removeprefix("torch.") for value in leaves if isinstance(value, Tensor))
    launches = not (func.is_view or name in ("detach", "_local_scalar_dense", "lift_fresh") or name.startswith("empty"))
    gpu.calls.append(Call(str(func), dtypes, numbers, launches))
    gpu.now += 1
    if launches and gpu.out_of_memory_after <= 0:
        raise torch.OutOfMemoryError("CUDA out of memory (of the fake GPU)")
    gpu.out_of_memory_after -= launches


def _check_devices(name: str, leaves: list[Any]) -> None:
    """Raise if a tensor of the CPU takes part; one without dimensions may, because it is handed over as a number."""
    for tensor in leaves:
        if isinstance(tensor, Tensor) and not isinstance(tensor, CudaTensor) and tensor.ndim:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found cuda:0 and {tensor.device} in {name}"
            )


def _copy(gpu: FakeGpu, name: str, func: Any, args: Any, kwargs: Any) -> Any:
    """Copy between or within devices."""
    if name == "copy_":
        target, source = args[:2]
        non_blocking = bool(args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        to_gpu = isinstance(target, CudaTensor)
    else:
        (source,), target = args, None
        non_blocking = bool(kwargs.get("non_blocking"))
        device = kwargs.get("device")
        to_gpu = isinstance(source, CudaTensor) if device is None else torch.device(device).type == "cuda"
        kwargs = {**kwargs, "device": CPU}
    from_gpu, size = isinstance(source, CudaTensor), source.numel() * source.element_size()
    held = source._memory if from_gpu else source
    if to_gpu and not from_gpu:
        if non_blocking and held.is_pinned() and held.is_contiguous():
            gpu.copied_from(held)
        else:
            gpu.wait("copy to the GPU", "through pageable memory" if non_blocking else "blocking", size)
    into = None if target is None else target._memory if to_gpu else target
    if from_gpu and not to_gpu:
        # Without a target, torch copies to page-locked memory.
        if not (non_blocking and (into is None or (into.is_pinned() and into.is_contiguous()))):
            gpu.wait("copy to the CPU", "through pageable memory" if non_blocking else "blocking", size)
        elif into is None:
            copied = func(held, **kwargs).pin_memory()
            gpu.copy_later(copied, copied)
            return copied
        else:
            gpu.copy_later(into, held.to(into.dtype).expand_as(into))
            return target
    if target is not None:
        into.copy_(held)  # type: ignore[union-attr]
        if isinstance(target, CudaTensor):
            target.is_made()
        return target
    copied = func(held, **kwargs)
    return CudaTensor(copied) if to_gpu else copied


def _indices_on_gpu(gpu: FakeGpu, name: str, args: Any) -> Any:
    """Return the arguments of an indexing with its indices on the GPU; masks wait, unless they are a fill."""
    of, indices, *rest = args
    if not isinstance(of, CudaTensor):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    from_host = "put" in name and not isinstance(rest[0], CudaTensor)  # as in ``values[places] = 1``
    if any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
        if not (from_host and rest[0].numel() == 1 and sum(index is not None for index in indices) == 1):
            gpu.wait("shape", f"{name} by a mask")
    elif from_host:
        gpu.wait("copy to the GPU", "value on the CPU", rest[0].element_size())
    moved = []
    for index in indices:
        if index is not None and not isinstance(index, CudaTensor):
            gpu.wait("copy to the GPU", "index on the CPU", index.numel() * index.element_size())
            index = CudaTensor(index)
        moved.append(index)
    _check_devices(name, rest)
    return of, moved, *rest


class _Lstm(torch.autograd.Function):
    """An LSTM as one operation, as cuDNN computes it."""

    @staticmethod
    def forward(ctx: Any, options: tuple[Any, ...], count: int, *tensors: Tensor) -> Any:
        """Compute output, hidden and cell state from the input, ``count`` states and the weights."""
        with torch.enable_grad():
            ctx.leaves = [tensor._memory.detach().requires_grad_() for tensor in tensors]  # type: ignore[attr-defined]
            first, states, weights = ctx.leaves[0], ctx.leaves[1 : 1 + count], ctx.leaves[1 + count :]
            ctx.found = _lstm(first, states, weights, *options)
        return tuple(CudaTensor(value.detach()) for value in ctx.found)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradients."""
        held = [gradient._memory for gradient in gradients]
        found = torch.autograd.grad(ctx.found, ctx.leaves, held, allow_unused=True)
        return None, None, *(None if gradient is None else CudaTensor(gradient) for gradient in found)


_lstm = torch._VF.lstm  # type: ignore[attr-defined]


def lstm(values: Tensor, *arguments: Any) -> Any:
    """Compute ``torch.lstm``; on the fake GPU in one operation."""
    if not isinstance(values, CudaTensor):
        return _lstm(values, *arguments)
    states, weights, *options = arguments
    _check_devices("lstm", [*states, *weights])
    tensors = [values, *states, *weights]
    dtypes = tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
    _active[-1].calls.append(Call("cudnn.lstm", dtypes, (), True))
    if torch.is_autocast_enabled("cuda"):
        tensors = [tensor.to(torch.get_autocast_dtype("cuda")) for tensor in tensors]
    return _Lstm.apply(tuple(options), len(states), *tensors)


@contextmanager
def on(gpu: FakeGpu) -> Iterator[None]:
    """Compute operations on "cuda" and log them."""
    made, as_made = torch.tensor, torch.as_tensor

    def tensor(data: Any, *, device: Any = None, **more: Any) -> Tensor:
        # torch's own does not show its copy to the device.
        found = made(data, **more)
        requires_grad, found = found.requires_grad, found.detach()
        return found.to(device).requires_grad_(requires_grad)

    def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
        found = data if isinstance(data, Tensor) else as_made(data, dtype=dtype)
        return found.to(device=device, dtype=dtype)

    _active.append(gpu)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "tensor", tensor))
        stack.enter_context(mock.patch.object(torch, "as_tensor", as_tensor))
        stack.enter_context(mock.patch.object(torch._VF, "lstm", lstm))
        stack.enter_context(OnGpu())
        try:
            yield
        finally:
            _active.pop()
