"""Compare a method with itself: two confirmations of it, with other seeds and noise draws, from records to verdict.

Whatever this claims is false, so over many pairs it may claim in 5 %.

python benchmarks/against_itself.py --experiment ravdess --level noisy-B
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pandas as pd
import tyro

from analysis.common.records import open_records
from analysis.common.results import read_results
from analysis.inference import compare_methods
from analysis.options import RecordsOptions
from study.schema import FINISHED
from study.uri import DEFAULT_URI


def main(experiment: str, level: str, method: str = "cross_entropy", tracking_uri: str = DEFAULT_URI) -> None:
    """Print the comparison of every pair of the method's seeds.

    Args:
        experiment: MLflow experiment.
        level: Noise level.
        method: Search space.
        tracking_uri: MLflow tracking URI.
    """
    records = open_records(RecordsOptions(tracking_uri, experiment))
    trials = records.confirmed
    wanted = (trials["space"] == method) & (trials["noise"] == level) & (trials["status"] == FINISHED)
    results = read_results(records, trials[wanted]).table
    seeds = sorted(results["seed"].unique())
    for place, first in enumerate(seeds):
        for second in seeds[place + 1 :]:
            pair = results[results["seed"].isin([first, second])]
            named = pair.assign(method="seed " + pair["seed"].astype(str), seed=1)
            print(_in_words(compare_methods(named, reference=f"seed {first}"), method, level))


def _in_words(compared: pd.DataFrame, method: str, level: str) -> str:
    (row,) = compared.to_dict("records")
    return (
        f"{method} at {level}, {row['method']} against the other: UAR {row['uar']:.3f} and {row['uar_reference']:.3f}, "
        f"{100 * row['difference']:+.1f} points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f}), "
        f"p {row['p']:.3f}, {row['units']} folds: {row['verdict']}"
    )


if __name__ == "__main__":
    tyro.cli(main)
