"""A GPU that is not there: tensors on "cuda" whose numbers lie in the memory of the CPU, and a log of what waits.

A test hands a function of its module to ``run_on_fake_cuda``, which calls it in a process of its own and returns what
it returned, as JSON. There, ``fake_cuda()`` makes everything below it believe in a GPU::

    def steps_wait():                                # at the top level of the test module
        with fake_cuda() as gpu:
            loss = network(torch.randn(8, 4, device="cuda")).sum()
            gpu.clear()
            loss.backward()
            return [str(wait) for wait in gpu.waits], gpu.launches

    def test_a_step_waits_for_nothing():
        waits, launches = run_on_fake_cuda(steps_wait)
        assert waits == []

What ``gpu`` is asked for:

* ``waits``: every point at which the host waits for the device, with the line of ``ser`` that caused it (``Wait``);
* ``calls``: every operation on the device, with types and Python numbers that it was given (``Call``);
* ``launches``: how many of them compute or copy, which is about the number of kernels;
* ``clear()``: forgets all of it;
* ``free_bytes`` and ``total_bytes``: what ``torch.cuda.mem_get_info`` answers; may be set;
* ``memory_fraction`` and ``emptied``: what the code has set, and how often it has emptied the cache;
* ``out_of_memory_after``: number of launches after which the device has no memory; may be set.

The numbers are right: operations are computed on the CPU, with the CUDA branches of torch's composite operations. So
control flow, losses and states are as they would be. Mixed devices are an error, as on a GPU. A copy from page-locked
memory with ``non_blocking=True`` does not wait, if it is contiguous (torch makes a pageable copy of any other). A copy
from other memory does, because CUDA stages it in the host's time, and waits for more than 64 KiB. A copy to the CPU
with ``non_blocking=True`` holds garbage (NaN) until something has synchronised, and page-locked memory that changes
while it is copied is an error. All work of streams is done at once, so a missing ``wait_stream`` is
not found, unless a test asks for it: ``tensor.check_stream()`` raises where the current stream has not waited for the
one that made a tensor, and ``tensor.recorded`` is what ``record_stream`` was called with. An LSTM is one operation, as
cuDNN's; other layers are not those of cuDNN.

Needs a C++ compiler (``CXX``, else c++ or g++) for three seconds once, and a torch built without CUDA.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata, util
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_suffix(".cpp")


# Outside: starting a process that has the GPU


def run_on_fake_cuda(function: Callable[..., Any], *arguments: Any, timeout: float = 500, **variables: str) -> Any:
    """Call a function of a test module in a process with a fake GPU, and return its result as JSON has it.

    Args:
        function: Function at the top level of an importable module.
        arguments: What JSON can hold.
        timeout: Seconds.
        variables: Environment variables.
    """
    import pytest

    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", __name__, function.__module__, function.__qualname__, json.dumps(arguments)]
        done = subprocess.run(
            [*command, str(answer)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise AssertionError(f"{function.__qualname__} failed in its process:\n{done.stdout}{done.stderr}")
        return json.loads(answer.read_text(encoding="utf-8"))


@cache
def missing() -> str:
    """Return why there can be no fake GPU here; empty if there can."""
    if not sys.platform.startswith("linux"):
        return f"the fake GPU is written for Linux, not {sys.platform}"
    import torch

    if torch.version.cuda or torch.version.hip:
        return "the fake GPU needs a torch without CUDA (the CPU build)"
    try:
        from torch.utils import _python_dispatch

        _ = torch.Tensor._make_wrapper_subclass, torch._C._disabled_torch_function_impl, torch._VF.lstm
        _ = _python_dispatch.TorchDispatchMode, torch.cuda._lazy_init
    except (ImportError, AttributeError) as error:
        return f"torch {torch.__version__} lacks what the fake GPU is made of: {error}"
    if compiler() is None:
        return "no C++ compiler: set CXX or install g++"
    try:
        library()
    except subprocess.CalledProcessError as error:
        first = next((line for line in error.stderr.splitlines() if "error" in line), error.stderr)
        return f"the fake GPU does not compile with torch {torch.__version__}: {first}"
    return ""


def compiler() -> str | None:
    """Return the C++ compiler, or None."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)


@cache
def library() -> Path:
    """Return the shared library, built once for a version of torch, compiler and source."""
    torch_folder = Path(util.find_spec("torch").origin).parent  # type: ignore[union-attr, arg-type]
    made_of = (SOURCE.read_text(encoding="utf-8"), metadata.version("torch"), str(torch_folder), compiler())
    folder = Path(tempfile.gettempdir()) / f"fake-cuda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    built = folder / f"{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=folder) as own:  # so that parallel test runs do not meet
            target = Path(own) / built.name
            command = [str(compiler()), "-std=c++20", "-O0", "-fPIC", "-shared", str(SOURCE), "-o", str(target)]
            libraries = torch_folder / "lib"
            where = [f"-I{torch_folder / 'include'}", f"-L{libraries}", "-lc10", "-ltorch_cpu"]
            subprocess.run([*command, *where, f"-Wl,-rpath,{libraries}"], check=True, capture_output=True, text=True)
            target.replace(built)
    return built


def load_library() -> None:
    """Load the library; before torch is imported, because torch asks once whether there is CUDA."""
    libraries = Path(util.find_spec("torch").origin).parent / "lib"  # type: ignore[union-attr, arg-type]
    for path in (libraries / "libc10.so", libraries / "libtorch_cpu.so", library()):
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def main() -> None:
    """Call a function in this process and write its result: MODULE FUNCTION ARGUMENTS FILE."""
    module, function, arguments, answer = sys.argv[1:]
    load_library()
    found = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


# Inside: what is logged


@dataclass(frozen=True)
class Wait:
    """A point at which the host waits for the device.

    Args:
        kind: ``item`` (a Python number from a tensor, also by float, bool or equal), ``copy to the GPU``,
            ``copy to the CPU``, ``shape`` (of the result depends on the data) or ``synchronize``.
        what: The operation.
        where: File below the repository, line and its text; the last one of ``ser`` on the stack.
        size: Bytes that are copied.
        before: Number of operations that were logged when it came.
    """

    kind: str
    what: str
    where: str
    size: int = 0
    before: int = 0

    def __str__(self) -> str:
        return f"{self.kind} ({self.what}): {self.where}"


@dataclass(frozen=True)
class Call:
    """An operation on the device.

    Args:
        name: Such as ``aten.convolution.default``.
        dtypes: Types of its tensors, such as ``float32``.
        numbers: Python numbers among its arguments: what a captured step would freeze.
        launches: Whether it computes or copies.
    """

    name: str
    dtypes: tuple[str, ...]
    numbers: tuple[float, ...]
    launches: bool


@dataclass
class FakeGpu:
    """The device: its log and its memory. See the module."""

    free_bytes: int = 64 << 30
    total_bytes: int = 80 << 30
    out_of_memory_after: float = math.inf
    memory_fraction: float | None = None
    emptied: int = 0
    now: int = 0
    waits: list[Wait] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    _to_host: list[tuple[Any, Any]] = field(default_factory=list)
    _from_host: list[tuple[Any, Any, str]] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """Return the number of operations that compute or copy."""
        return sum(call.launches for call in self.calls)

    def clear(self) -> None:
        """Forget what was logged."""
        self.waits.clear()
        self.calls.clear()

    def wait(self, kind: str, what: str, size: int = 0) -> None:
        """Log a wait, after which all copies are done."""
        self.waits.append(Wait(kind, what, place(), size, len(self.calls)))
        self.finish_copies()

    def finish_copies(self) -> None:
        """Do the copies to the host, and check that memory that was copied from it is what it was."""
        import torch

        to_host, self._to_host = self._to_host, []
        from_host, self._from_host = self._from_host, []
        for target, value in to_host:
            target.copy_(value)
        for source, value, where in from_host:
            if not torch.equal(source, value):
                raise RuntimeError(f"page-locked memory was changed while it was copied to the GPU ({where})")

    def copy_later(self, target: Any, value: Any) -> None:
        """Fill a tensor of the host with garbage, and with a value after the next wait."""
        self._to_host.append((target, value.clone()))
        target.fill_(math.nan if target.is_floating_point() else True if target.dtype == bool else -99)

    def copied_from(self, source: Any) -> None:
        """Note that memory of the host must stay as it is until the next wait."""
        self._from_host.append((source, source.clone(), place()))


def place() -> str:
    """Return the innermost line of ``ser`` that is running; that of the main thread for a thread of the autograd."""
    found = _innermost(sys._getframe(1)) or _innermost(sys._current_frames().get(threading.main_thread().ident or 0))
    return found or "outside of ser"


def _innermost(frame: FrameType | None) -> str | None:
    """Return the line of ``ser`` on a stack, and the line of a package other than torch that it has called."""
    import linecache

    import torch

    import ser

    root = Path(ser.__file__).parent
    passed_over = (f"{Path(torch.__file__).parent}{os.sep}", f"{ROOT / 'tests'}{os.sep}", "<")
    below = ""
    while frame is not None:
        name, line = frame.f_code.co_filename, frame.f_lineno
        if name.startswith(f"{root}{os.sep}"):
            return f"{Path(name).relative_to(root.parent)}:{line}  {linecache.getline(name, line).strip()}{below}"
        if not below and "site-packages" in name and not name.startswith(passed_over):
            below = f"  (in {name.partition('site-packages/')[2]}:{line})"
        frame = frame.f_back
    return None


@contextmanager
def fake_cuda(**settings: Any) -> Iterator[FakeGpu]:
    """Give this process a GPU. Only in a process that ``run_on_fake_cuda`` has started.

    Args:
        settings: Fields of ``FakeGpu``.
    """
    from tests.helpers import fake_tensors

    gpu = FakeGpu(**settings)
    with ExitStack() as stack:
        stack.enter_context(fake_tensors.on(gpu))
        stack.enter_context(_patched(gpu))
        yield gpu
        gpu.finish_copies()


# Inside: the part of torch.cuda that needs a driver


class FakeStream:
    """Stream on which everything is done at once; it knows up to which operation it has waited for each other one."""

    _gpu: FakeGpu
    device_index = cuda_stream = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        self.waited: dict[FakeStream | None, int] = {}

    def __deepcopy__(self, memory: Any) -> FakeStream:
        return self  # a copy of a tensor names the stream that made it

    def synchronize(self) -> None:
        self._gpu.wait("synchronize", "stream")

    def query(self) -> bool:
        return True

    def record_event(self, event: FakeEvent | None = None) -> FakeEvent:
        import torch

        found: Any = event or torch.cuda.Event()
        found.record(self)
        return found  # type: ignore[no-any-return]

    def wait_event(self, event: FakeEvent) -> None:
        self.waited[event.stream] = event.time

    def wait_stream(self, stream: FakeStream) -> None:
        self.waited[stream] = self._gpu.now


class FakeEvent:
    """Event that is done when it is recorded."""

    _gpu: FakeGpu
    stream: FakeStream | None = None
    time = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def record(self, stream: FakeStream | None = None) -> None:
        import torch

        self.stream, self.time = stream or torch.cuda.current_stream(), self._gpu.now  # type: ignore[assignment]

    def wait(self, stream: FakeStream | None = None) -> None:
        import torch

        (stream or torch.cuda.current_stream()).wait_event(self)  # type: ignore[arg-type]

    def synchronize(self) -> None:
        self._gpu.wait("synchronize", "event")

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: FakeEvent) -> float:
        return 1.0


@contextmanager
def _patched(gpu: FakeGpu) -> Iterator[None]:
    """Replace what asks the driver."""
    import torch

    # Types, because annotations of other packages join them with None.
    stream_type, event_type = (type(kind.__name__, (kind,), {"_gpu": gpu}) for kind in (FakeStream, FakeEvent))
    default = stream_type()
    of_thread = threading.local()

    @contextmanager
    def on_stream(stream: FakeStream | None) -> Iterator[None]:
        before = current_stream()
        of_thread.stream = stream or before
        try:
            yield
        finally:
            of_thread.stream = before

    def current_stream(device: Any = None) -> Any:
        return getattr(of_thread, "stream", default)

    def fraction(value: float, device: Any = None) -> None:
        gpu.memory_fraction = value

    def empty_cache() -> None:
        gpu.emptied += 1

    properties = SimpleNamespace(
        name="fake GPU", total_memory=gpu.total_bytes, major=9, minor=0, multi_processor_count=132
    )
    nothing = (
        *("_lazy_init", "init", "set_device", "manual_seed", "manual_seed_all", "ipc_collect", "set_sync_debug_mode"),
        *("reset_peak_memory_stats", "reset_accumulated_memory_stats"),
    )
    answers: dict[str, Any] = {
        **dict.fromkeys(nothing),
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "is_tf32_supported": True,
        "is_current_stream_capturing": False,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": properties.name,
        "get_device_capability": (9, 0),
        "get_device_properties": properties,
        "memory_stats": {},
        "get_sync_debug_mode": 0,
        **dict.fromkeys(("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"), 0),
    }
    functions = {
        **{name: partial(_answer, value) for name, value in answers.items()},
        "mem_get_info": lambda device=None: (gpu.free_bytes, gpu.total_bytes),
        "set_per_process_memory_fraction": fraction,
        "get_per_process_memory_fraction": lambda device=None: gpu.memory_fraction or 1.0,
        "empty_cache": empty_cache,
        "synchronize": lambda device=None: gpu.wait("synchronize", "device"),
        "Stream": stream_type,
        "Event": event_type,
        "stream": on_stream,
        "current_stream": current_stream,
        "default_stream": lambda device=None: default,
        "device": lambda device=None: nullcontext(),
    }
    with ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        yield


def _answer(value: Any, *_: Any, **__: Any) -> Any:
    return value


if __name__ == "__main__":
    # As the module that tests import, so that there is one of each class.
    from tests.helpers import fake_cuda as module

    module.main()
