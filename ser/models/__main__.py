"""Command line of the models: python -m ser.models list, python -m ser.models fetch cnn14_16k --output PATH."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from rich.console import Console

from ser.models import MODELS, build_model
from ser.models.fetch import WEIGHTS, FetchOptions, fetch
from ser.utils.command_line import parse_commands, run_command
from ser.utils.printing import make_console, print_table


@dataclass(frozen=True)
class ListOptions:
    """List the networks with their front ends, sizes and the published weights that can be downloaded."""


def main() -> int:
    """Run the command line and return its exit code."""
    options = parse_commands({"list": ListOptions, "fetch": FetchOptions})
    if isinstance(options, FetchOptions):
        fetch(options.name, options.output)
    else:
        print_models(make_console())
    return 0


def print_models(console: Console) -> None:
    """Print one line for each built-in network, at width 1 and without its class head."""
    rows = []
    for name in MODELS:
        with torch.device("meta"):
            model = build_model(name, 2)
        size = sum(parameter.numel() for key, parameter in model.named_parameters() if not key.startswith("head."))
        weights = ", ".join(key for key, value in WEIGHTS.items() if value.model == name)
        rows.append([name, ", ".join(model.front_ends), f"{size:,}", str(model.embedding_size), weights or "–"])
    columns = ["model", "front ends", "parameters", "embedding", "weights to fetch"]
    print_table(console, columns, rows, numbers=["parameters", "embedding"])
    console.print("and hf:NAME_OR_FOLDER, a speech encoder of the transformers library (docs/models.md)")


if __name__ == "__main__":
    sys.exit(run_command(main))
