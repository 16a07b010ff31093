"""The arithmetic of a study's trials: one for all of them, wherever they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ser.config import Precision
from ser.training.device.arithmetic import Arithmetic, Device, emulated, has_bfloat16, no_tf32
from ser.utils.errors import UserError


@dataclass(frozen=True)
class Abilities:
    """Precisions that the CPU, or each GPU, of a node computes in without emulating them.

    Args:
        bfloat16: Whether each computes in bfloat16.
        tf32: Whether each computes in TF32.
    """

    bfloat16: Sequence[bool]
    tf32: Sequence[bool]


def cpu_abilities() -> Abilities:
    """Return what the CPU of this machine computes."""
    return Abilities((has_bfloat16("cpu"),), (False,))


def common_arithmetic(kind: Device, precision: Precision, nodes: Mapping[str, Abilities]) -> tuple[Arithmetic, str]:
    """Return the arithmetic of all trials, and a warning; raise if trials would differ by where they run.

    Args:
        kind: Kind of device that trials run on.
        precision: ``training.precision`` of the study.
        nodes: What each node computes that can run trials, by the node's description, such as ``this machine``.

    Returns:
        The arithmetic; and a warning if bfloat16 is emulated, else an empty string.

    Raises:
        UserError: Devices differ, so that ``auto`` would; or a device lacks TF32, and it is asked for.

    Example:
        >>> new, old = Abilities([True], [True]), Abilities([False], [False])
        >>> common_arithmetic("cuda", "auto", {"this machine": new, "node b": new})[0].name
        'cuda bfloat16'
        >>> common_arithmetic("cuda", "bfloat16", {"this machine": new, "node b": old})[1]
        'the GPU of node b emulates bfloat16, which takes longer than float32. auto chooses what is fast.'
    """
    emulating = [node for node, found in nodes.items() if not all(found.bfloat16)]
    if precision == "auto":
        if emulating and any(any(found.bfloat16) for found in nodes.values()):
            raise UserError(
                f"{_devices(kind, emulating)} not compute in bfloat16, others do, so that trials would differ by where "
                "they run. Choose one for all: --precision float32."
            )
        return Arithmetic(kind, "float32" if emulating else "bfloat16"), ""
    if precision == "tf32" and (without := [node for node, found in nodes.items() if not all(found.tf32)]):
        raise no_tf32("trials run on CPUs" if kind == "cpu" else f"{_devices(kind, without)} not have it")
    if precision == "bfloat16" and emulating:
        return Arithmetic(kind, precision), emulated(f"the {kind.replace('cuda', 'gpu').upper()} of {emulating[0]}")
    return Arithmetic(kind, precision), ""


def _devices(kind: Device, nodes: Sequence[str]) -> str:
    """Return the beginning of a sentence on devices that do not compute in something."""
    return f"{'the GPUs' if kind == 'cuda' else 'the CPUs'} of {', '.join(nodes)} do"
