"""Lists the models, and gets published weights: python -m ser.models fetch cnn14_16k --output PATH."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from ser.models import MODELS
from ser.models.fetch import WEIGHTS, FetchOptions, fetch
from ser.utils.command_line import parse_commands, run_command


@dataclass(frozen=True)
class ListOptions:
    """Lists the models: what they read, how large they are, and whose weights can be fetched."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse_commands({"list": ListOptions, "fetch": FetchOptions})
    if isinstance(options, FetchOptions):
        fetch(options.name, options.output)
    else:
        print_models(Console())
    return 0


def print_models(console: Console) -> None:
    """Prints a line for each model, at width 1 and without its class head."""
    table = Table("model", "front ends", "parameters", "embedding", "weights to fetch", box=None, pad_edge=False)
    for name, kind in MODELS.items():
        with torch.device("meta"):
            model = kind(2)
        size = sum(parameter.numel() for part, parameter in model.named_parameters() if not part.startswith("head."))
        weights = ", ".join(key for key, value in WEIGHTS.items() if value.model == name)
        table.add_row(name, ", ".join(kind.front_ends), f"{size:,}", str(model.embedding_size), weights or "–")
    console.print(table)


if __name__ == "__main__":
    sys.exit(run_command(main))
