"""What the rows of all parts say: the table for docs/performance.md, and which aims are met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.gpu_parts.common import Row
from benchmarks.gpu_parts.device_step import BOTH, CAPTURED, COMPILED
from benchmarks.gpu_parts.steps import FIELD, FIELD_MIXED, OURS
from benchmarks.measure import table

SPEED_PARTS = ("first speed", "field speed", "own speed", "compiled")
SPEED, SHARE_OF_LIMIT, SHARED_SPEED, TRIALS = 8.0, 0.6, 10.0, 4
"""The aims: speed relative to the field's loop at the largest width; share of the memory-bound limit there; speed of
``TRIALS`` narrow trials that share the GPU relative to one of the field's loops."""

Results = Mapping[str, Row]


def rows_of(results: Results, *parts: str) -> list[Row]:
    """Return the rows of parts, those with errors left out."""
    return [row for name in parts if name in results for row in results[name]["rows"] if "error" not in row]


class Speeds:
    """Clips per second by width, batch and variant, and the limits of the machine.

    Args:
        results: Results of all parts.
    """

    def __init__(self, results: Results) -> None:
        about = rows_of(results, "machine")
        self.peak = next((row["peak"] for row in about if "peak" in row), None)
        self.limits = {(row["width"], row["batch"]): row for row in about if "limit" in row}
        timed = [row for row in rows_of(results, *SPEED_PARTS) if "seconds_of_step" in row]
        self.rows = {(row["width"], row["batch"], row["variant"]): row for row in timed}

    def speed(self, width: float, batch: int, variant: str) -> float | None:
        """Return clips per second; None if that was not measured."""
        row = self.rows.get((width, batch, variant))
        return None if row is None else batch / row["seconds_of_step"]

    def ratio(self, width: float, batch: int, variant: str, speed: float | None = None) -> float | None:
        """Return the speed of a variant, or a given one, relative to the field's loop in float32."""
        field = self.speed(width, batch, FIELD)
        found = self.speed(width, batch, variant) if speed is None else speed
        return None if field is None or found is None else found / field

    def share(self, width: float, batch: int, variant: str) -> float | None:
        """Return the speed of a variant relative to the memory-bound limit of this device."""
        limit, found = self.limits.get((width, batch)), self.speed(width, batch, variant)
        return None if limit is None or found is None else found / limit["limit"]

    def mfu(self, width: float, batch: int, variant: str) -> float | None:
        """Return the floating-point operations in a second relative to the measured peak."""
        limit, found = self.limits.get((width, batch)), self.speed(width, batch, variant)
        return None if limit is None or found is None or not self.peak else found * limit["flop"] / self.peak

    def table(self) -> str:
        """Return the table of docs/performance.md: one row for each width and batch."""
        variants = (FIELD, FIELD_MIXED, OURS, CAPTURED, COMPILED, BOTH)
        header = ["width", "batch", *variants, "limit", "this project: share of the limit", "MFU", "peak GB"]
        lines = []
        for width, batch in sorted(self.limits, key=lambda size: (-size[0], size[1])):
            line = [f"{width:g}", str(batch)]
            for variant in variants:
                speed, ratio = self.speed(width, batch, variant), self.ratio(width, batch, variant)
                text = "–" if speed is None else f"{speed:,.0f}"
                line.append(text if ratio is None or variant == FIELD else f"{text} ({ratio:.1f} ×)")
            row = self.rows.get((width, batch, OURS), {})
            memory = " / ".join(f"{row[key]:.1f}" for key in ("allocated_gb", "reserved_gb") if key in row)
            shares = [self.share(width, batch, OURS), self.mfu(width, batch, OURS)]
            line += [f"{self.limits[width, batch]['limit']:,.0f}"]
            line += ["–" if share is None else f"{share:.1%}" for share in shares]
            lines.append([*line, memory or "–"])
        return table(header, lines)


def aims(results: Results) -> Iterator[tuple[str, str, str]]:
    """Yield each aim, what was measured, and ``met``, ``missed`` or ``not measured``."""
    speeds = Speeds(results)
    sizes = list(speeds.limits)
    if sizes:
        width, batch = sizes[0]
        found = speeds.ratio(width, batch, OURS)
        name = f"training at width {width:g}, batch {batch}"
        yield f"{name}, ≥ {SPEED:g} × the field's loop", _times(found), _verdict(found, SPEED)
        share = speeds.share(width, batch, OURS)
        percent = "–" if share is None else f"{share:.0%}"
        yield f"{name}, ≥ {SHARE_OF_LIMIT:.0%} of the memory-bound limit", percent, _verdict(share, SHARE_OF_LIMIT)
    shared = [row for row in rows_of(results, "sharing", "sharing, MPS") if row.get("processes") == TRIALS]
    for row in shared or [{}]:
        ratio = speeds.ratio(row["width"], row["batch"], OURS, row["clips_per_second"]) if row else None
        how = "" if not row else " with MPS" if row["mps"] else " without MPS"
        aim = f"{TRIALS} narrow trials on one GPU{how}, ≥ {SHARED_SPEED:g} × the field's loop"
        yield aim, _times(ratio), _verdict(ratio, SHARED_SPEED)
    waits = [row["waits_per_step"] for row in rows_of(results, "waits") if "waits_per_step" in row]
    most = max(waits, default=None)
    verdict = "not measured" if most is None else "missed" if most or _failed(results, "waits") else "met"
    yield "no wait for the GPU in a step, every loss", "–" if most is None else f"at most {most:g}", verdict
    for part, what in (("numbers", "numbers of the CPU, every loss and network"), ("capture", "a captured step")):
        judged = [row["right"] for row in rows_of(results, part) if "right" in row]
        right = f"{sum(judged)} of {len(judged)} right" if judged else "–"
        verdict = "not measured" if not judged else "met" if all(judged) and not _failed(results, part) else "missed"
        yield what, right, verdict


def _failed(results: Results, part: str) -> bool:
    return bool(results[part]["error"]) or any("error" in row for row in results[part]["rows"])


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1f} ×"


def _verdict(found: float | None, least: float) -> str:
    return "not measured" if found is None else "met" if found >= least else "missed"


def as_markdown(results: Results, left_out: Sequence[str]) -> str:
    """Return the aims, the table of speeds, and a table of each part.

    Args:
        results: Results of the parts so far.
        left_out: Parts for which there was no time.
    """
    blocks = [table(("aim", "measured", ""), list(aims(results))), Speeds(results).table()]
    blocks.append(
        "Clips of 5 s per second; in brackets relative to the field's loop: float32 with torch's defaults (TF32 in "
        "convolutions), contiguous, `.item()` for loss and accuracy in every step. MFU is of the bfloat16 product "
        "measured here, the limit of that and the bandwidth measured here; GB allocated / reserved."
    )
    if left_out:
        blocks.append(f"No time was left for: {', '.join(left_out)}.")
    for name, result in results.items():
        blocks.append(f"**{name}**, {result['seconds']:.0f} s")
        if columns := list(dict.fromkeys(key for row in result["rows"] for key in row)):
            blocks.append(table(columns, [[cell(row.get(key)) for key in columns] for row in result["rows"]]))
        if result["error"]:
            blocks.append(f"Error: {result['error']}")
    return "\n\n".join(blocks) + "\n"


def cell(value: Any) -> str:
    """Return a value as text for a table, without characters that end a cell."""
    text = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "/").split())
