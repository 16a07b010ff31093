"""Methods with labels of their own in the analyses: named, explained, and repeated by the printed commands."""

from analysis.common.methods import choose_methods
from analysis.common.parameters import parameters_of
from study.setup.spaces import load_space
from study.tracking.searches import best_runs, caveats

FITTED, SOFT = "cross_entropy+dawid_skene", "cross_entropy+soft"
CAVEAT = "Methods with other --labels have noisy labels of their own"


def test_kinds_of_labels_are_methods_at_one_level_and_their_scores_are_explained(made_store):
    made_store.search({(name, "clean"): [0.5, 0.7] for name in ("cross_entropy", FITTED, SOFT)})
    records = made_store.records()
    best = best_runs(records.search)
    assert list(best["space"]) == ["cross_entropy", FITTED, SOFT]
    assert any(line.startswith(CAVEAT) for line in caveats(records.search, best))
    assert [method.space for method in choose_methods(records).at("clean")] == ["cross_entropy", FITTED, SOFT]


def test_commands_name_space_and_labels(made_store):
    made_store.search({(name, "clean"): [0.5] for name in ("elr", FITTED, SOFT)})
    records = made_store.records()
    assert not any(line.startswith(CAVEAT) for line in caveats(records.search, best_runs(records.search).head(0)))
    assert records.space_options("elr") == ["--space", "elr"]
    with_labels = ["--noise", "clean", "--labels", "dawid_skene", "soft", "--space", "cross_entropy"]
    assert records.space_options(FITTED, SOFT) == with_labels


def test_the_ranges_of_a_space_are_those_with_any_labels():
    tried = [{"optimizer.lr": "0.001"}, {"optimizer.lr": "0.002"}]
    (rate,) = parameters_of(SOFT, tried)
    assert rate == parameters_of("cross_entropy", tried)[0]
    assert rate.high == load_space("cross_entropy", {}).distributions()["optimizer.lr"].high
