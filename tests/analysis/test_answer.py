"""The three sentences say what the comparisons say, recommend no oracle, and claim no more."""

import re

import pandas as pd
import yaml

from analysis.common.families import read_families
from analysis.page.answer import answer, certainty, effect_sentence, mean_test_scores, which_loss
from analysis.page.recommendation import recommend, write_configurations
from study.schema import SELECTIONS, STOPPED
from tests.helpers.confirmed_records import confirmed_records, joined

NAN = float("nan")
TWELVE = {fold: [fold] for fold in range(1, 13)}
PRIMARY = ("noisy-B", "proselflc")


def constant(right):
    return lambda speaker, seed: right


def wavering(speaker, seed):
    return 5 + (speaker + seed) % 2


def made(folds=TWELVE, primary=PRIMARY, noise=("noisy-B",), **methods):
    stopped = methods.pop("stopped", None)
    cells = {(level, space): right for level in noise for space, right in methods.items()}
    return confirmed_records(cells, folds=folds, primary=primary, stopped=stopped)


def which(records):
    return which_loss(recommend(read_families(records)), mean_test_scores(records))


def how_certain(records):
    text = certainty(read_families(records), records)
    assert not re.search(r"\bnan\b|\binf\b|None", text)
    return text


# Which loss


def test_a_better_method_is_recommended_with_both_scores():
    records = made(cross_entropy=wavering, proselflc=constant(8))
    assert which(records) == (
        "At noisy-B (40.2% of the labels wrong) train with proselflc, whose test UAR is 0.800 against 0.550 with "
        "cross_entropy."
    )


def test_of_several_better_ones_the_first_declared_is_named_whatever_the_scores():
    records = made(cross_entropy=wavering, proselflc=constant(7), elr=constant(9))
    assert "train with proselflc" in which(records)
    assert "(elr is better than cross_entropy too, and not compared with it)" in which(records)


def test_without_evidence_the_reference_is_recommended():
    records = made(cross_entropy=wavering, proselflc=wavering)
    assert which(records) == (
        "At noisy-B train with cross_entropy, the reference: nothing shows that proselflc is better."
    )


def test_a_design_that_could_show_nothing_leaves_the_reference_and_says_so():
    records = made(folds={fold: [fold] for fold in range(1, 6)}, cross_entropy=constant(2), proselflc=constant(9))
    assert which(records) == (
        "At noisy-B train with cross_entropy, the reference: nothing shows that proselflc is better, and with so few "
        "trained units nothing could have."
    )
    assert "no evidence was possible with so few trained units" in how_certain(records)


def test_each_level_has_its_own_verdict():
    cells = {("clean", "cross_entropy"): constant(8), ("clean", "proselflc"): wavering}
    cells |= {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "proselflc"): constant(8)}
    sentence = which(confirmed_records(cells, folds=TWELVE, primary=PRIMARY))
    assert sentence.startswith("At noisy-B (40.2% of the labels wrong) train with proselflc")
    assert "at clean train with cross_entropy, the reference" in sentence
    assert "at clean proselflc is worse than cross_entropy" in sentence


def test_oracles_are_shown_and_never_recommended():
    records = made(primary=None, cross_entropy=wavering, soft_labels=constant(10), elr=constant(7))
    assert "train with elr" in which(records)
    assert which(records).endswith("soft_labels is an oracle: shown, and never recommended.")
    alone = made(primary=None, cross_entropy=wavering, soft_labels=constant(10))
    assert which(alone).startswith("At noisy-B train with cross_entropy, the reference")
    assert recommend(read_families(alone))[0].method == "cross_entropy"


def test_configurations_that_true_labels_chose_are_oracles():
    records = confirmed_records(
        {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(9)}, folds=TWELVE, candidate="search-1"
    )
    assert recommend(read_families(records))[0].method == "elr"
    records.selection = SELECTIONS["clean"]
    assert recommend(read_families(records))[0].oracles == ("elr",)
    assert recommend(read_families(records))[0].method == "cross_entropy"


def test_an_early_stop_can_be_recommended_after_the_declared_methods():
    records = made(cross_entropy=wavering, proselflc=wavering, stopped={"cross_entropy": constant(8)})
    assert "train with cross_entropy with an early stop, whose test UAR is 0.800" in which(records)


def test_an_incomplete_design_recommends_nothing_yet():
    records = made(cross_entropy=wavering, proselflc=constant(8))
    records.confirmed.loc[0, "status"] = STOPPED
    assert which(records) == ("At noisy-B there is no verdict on proselflc yet, because planned trainings are missing.")
    assert "1 of 24 planned trainings have not finished" in how_certain(records)
    assert "better" not in how_certain(records)


def test_the_first_confirmation_comes_first():
    first = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "proselflc"): constant(7)}
    later = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(9)}
    records = joined(
        confirmed_records(first, folds=TWELVE, primary=PRIMARY),
        confirmed_records(later, folds=TWELVE, study="second", seeds=(2,), start=1000),
    )
    assert "train with proselflc" in which(records)
    assert "elr is better than cross_entropy too" in which(records)
    assert "Confirmation second, a later family of its own: 12 folds" in how_certain(records)


def test_a_search_alone_cannot_show_which_loss(made_store):
    made_store.search({("proselflc", "clean"): [0.5]})
    first, second, _ = answer(made_store.records())
    assert "The search alone cannot show which loss" in first
    assert second.endswith(f"python study/confirm.py --experiment made --tracking-uri {made_store.uri} --study made")


def test_one_method_alone_is_scored_and_not_compared():
    sentence = which(made(primary=None, elr=constant(5)))
    assert "Which loss is best is unknown" in sentence
    assert "elr 0.500 at noisy-B" in sentence


# How certain


def test_the_design_and_its_primary_comparison_come_first():
    records = made(noise=("clean", "noisy-B"), cross_entropy=wavering, proselflc=constant(8))
    assert how_certain(records).startswith(
        "12 folds, one speaker each, a seed and a noise draw of its own: declared beforehand, proselflc at noisy-B "
        "differs from cross_entropy by +25.0 points (95 % interval +21.7 to +28.3), p < 0.001 after correction: "
        "evidence that it is better; proselflc at clean differs by +25.0 points"
    )
    assert how_certain(records).endswith(
        "The claim is about trainings on this corpus's speakers with other seeds and noise draws, and test speakers of "
        "their kind."
    )


def test_no_evidence_comes_with_what_would_have_been_found():
    def mixed(speaker, seed):
        return 4 + 2 * (speaker % 2)

    declared = how_certain(made(cross_entropy=constant(5), proselflc=mixed))
    assert re.search(r"no evidence of a difference, where \d+\.\d points would have been found", declared)
    undeclared = how_certain(made(primary=None, cross_entropy=constant(5), elr=mixed))
    assert "no evidence of a difference in 1 comparison, the largest +0.0 points" in undeclared


# The configuration


def test_the_configuration_of_the_recommended_method_is_written(tmp_path):
    records = made(cross_entropy=wavering, elr=constant(8), primary=("noisy-B", "elr"))
    worse = records.confirmed[records.confirmed["space"] == "elr"].assign(candidate="search-1", selected=0.4)
    worse["parameters"] = [{"loss.name": "elr", "optimizer.lr": "0.5"}] * len(worse)
    records.confirmed = pd.concat([records.confirmed, worse], ignore_index=True)
    (path,) = write_configurations(records, recommend(read_families(records)), tmp_path / "new")
    assert path.name == "recommended-noisy-B.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# made: elr at noise level noisy-B: better than cross_entropy.")
    written = yaml.safe_load(text)
    assert (written["loss.name"], written["optimizer.lr"]) == ("elr", 0.001)


# What the losses did to the labels


def fate(space, changed, precision=NAN, memorised=NAN, noise="noisy-B", rate=0.4):
    return {
        "noise": noise, "rate": rate, "space": space, "trials": 3, "changed": changed, "precision": precision,
        "memorised": memorised,
    }  # fmt: skip


def test_the_fate_of_the_labels_is_that_of_the_noisiest_level():
    rows = [fate("elr", 0.3, noise="clean", rate=0.0), fate("elr", 0.12, 0.45, 0.2), fate("cross_entropy", 0, NAN, 0.3)]
    sentence = effect_sentence(pd.DataFrame(rows), "cross_entropy", confirmed=True)
    assert sentence == (
        "At noisy-B (40.0% of the labels wrong), elr changed 12.0% of the training labels in the last epoch, 45% of "
        "these to the true one; with elr the network had memorised 20% of the wrong labels, with cross_entropy 30% "
        "(mean of 3 trials, described and not tested)."
    )


def test_labels_that_nobody_changed_and_labels_without_truth():
    unchanged = pd.DataFrame([fate("elr", 0.0), fate("cross_entropy", 0.0)])
    assert "no loss changed a training label" in effect_sentence(unchanged, "cross_entropy", confirmed=False)
    unknown = pd.DataFrame([fate("elr", 0.1, rate=NAN)])
    sentence = effect_sentence(unknown, "cross_entropy", confirmed=False)
    assert "nan" not in sentence
    assert "of the search" in sentence
    assert "not on record" in effect_sentence(unknown.assign(changed=NAN), "cross_entropy", confirmed=True)
