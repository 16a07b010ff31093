"""The recommended methods: never an oracle, one verdict per method, and their configurations as files."""

import pandas as pd
import yaml

from analysis.common.families import read_families
from analysis.page.recommendation import recommend, write_configurations
from study.schema import SELECTIONS
from tests.helpers.confirmed_records import confirmed_records, joined

TWELVE = {fold: [fold] for fold in range(1, 13)}


def constant(right):
    return lambda speaker, seed: right


def wavering(speaker, seed):
    return 5 + (speaker + seed) % 2


def test_a_method_that_true_labels_have_trained_is_never_recommended():
    cells = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "soft_labels"): constant(10)}
    (one,) = recommend(read_families(confirmed_records(cells, folds=TWELVE)))
    assert (one.method, one.oracles) == ("cross_entropy", ("soft_labels",))


def test_configurations_that_true_labels_chose_are_oracles():
    cells = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(9)}
    records = confirmed_records(cells, folds=TWELVE, candidate="search-1")
    assert recommend(read_families(records))[0].method == "elr"
    records = confirmed_records(cells, folds=TWELVE, candidate="search-1")
    records.selection = SELECTIONS["clean"]
    assert recommend(read_families(records))[0].oracles == ("elr",)
    assert recommend(read_families(records))[0].method == "cross_entropy"


def confirmed_twice(first, second):
    """Return records of two confirmations of cross entropy and ELR at noisy-B."""
    cells = [{("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): right} for right in (first, second)]
    return joined(
        confirmed_records(cells[0], folds=TWELVE),
        confirmed_records(cells[1], folds=TWELVE, study="second", seeds=(2,), start=1000),
    )


def test_a_method_that_two_confirmations_compare_has_one_verdict():
    (one,) = recommend(read_families(confirmed_twice(wavering, constant(8))))
    assert (one.method, one.study, one.open) == ("elr", "second", ())
    (one,) = recommend(read_families(confirmed_twice(constant(8), wavering)))
    assert (one.method, one.study, one.open) == ("elr", "first", ())
    (one,) = recommend(read_families(confirmed_twice(constant(2), constant(8))))
    assert (one.method, one.worse, one.also) == ("cross_entropy", ("elr",), ())  # the earliest claim


def test_the_configuration_of_the_recommended_method_is_written(tmp_path):
    cells = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(8)}
    records = confirmed_records(cells, folds=TWELVE, primary=("noisy-B", "elr"))
    worse = records.confirmed[records.confirmed["space"] == "elr"].assign(candidate="search-1", selected=0.4)
    worse["parameters"] = [{"loss.name": "elr", "optimizer.lr": "0.5"}] * len(worse)
    records.confirmed = pd.concat([records.confirmed, worse], ignore_index=True)
    (path,) = write_configurations(records, recommend(read_families(records)), tmp_path / "new")
    assert path.name == "recommended-noisy-B.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# made: ELR at noise level noisy-B: better than cross entropy (+25.0 points, p < 0.001).")
    written = yaml.safe_load(text)
    assert (written["loss.name"], written["optimizer.lr"]) == ("elr", 0.001)
