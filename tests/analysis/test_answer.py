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
        "At noisy-B (40.2% of the labels wrong) train with ProSelfLC, whose test UAR is 80.0%, 25.0 points higher than "
        "with cross entropy."
    )


def test_of_several_better_ones_the_first_declared_is_named_whatever_the_scores():
    records = made(cross_entropy=wavering, proselflc=constant(7), elr=constant(9))
    assert "train with ProSelfLC" in which(records)
    assert "(ELR is better than cross entropy too, and not compared with it)" in which(records)


def test_without_evidence_the_reference_is_recommended():
    records = made(cross_entropy=wavering, proselflc=wavering)
    assert which(records) == (
        "At noisy-B train with cross entropy, the reference: nothing shows that ProSelfLC is better."
    )


def test_a_design_that_could_show_nothing_leaves_the_reference_and_says_so():
    records = made(folds={fold: [fold] for fold in range(1, 6)}, cross_entropy=constant(2), proselflc=constant(9))
    assert which(records) == (
        "At noisy-B train with cross entropy, the reference: nothing shows that ProSelfLC is better, and with 5 folds "
        "nothing could have."
    )
    assert "5 folds cannot show a difference between ProSelfLC and cross entropy" in how_certain(records)


def test_each_level_has_its_own_verdict():
    cells = {("clean", "cross_entropy"): constant(8), ("clean", "proselflc"): wavering}
    cells |= {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "proselflc"): constant(8)}
    sentence = which(confirmed_records(cells, folds=TWELVE, primary=PRIMARY))
    assert sentence.startswith("At noisy-B (40.2% of the labels wrong) train with ProSelfLC")
    assert sentence.endswith("; at clean train with cross entropy, the reference: ProSelfLC is worse.")


def test_oracles_are_shown_and_never_recommended():
    records = made(primary=None, cross_entropy=wavering, soft_labels=constant(10), elr=constant(7))
    assert "train with ELR" in which(records)
    assert which(records).endswith("Soft labels is an oracle: shown, and never recommended.")
    alone = made(primary=None, cross_entropy=wavering, soft_labels=constant(10))
    assert which(alone).startswith("At noisy-B train with cross entropy, the reference")
    assert recommend(read_families(alone))[0].method == "cross_entropy"


def test_configurations_that_true_labels_chose_are_oracles():
    cells = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(9)}
    records = confirmed_records(cells, folds=TWELVE, candidate="search-1")
    assert recommend(read_families(records))[0].method == "elr"
    records = confirmed_records(cells, folds=TWELVE, candidate="search-1")
    records.selection = SELECTIONS["clean"]
    assert recommend(read_families(records))[0].oracles == ("elr",)
    assert recommend(read_families(records))[0].method == "cross_entropy"


def test_an_early_stop_can_be_recommended_after_the_declared_methods():
    records = made(cross_entropy=wavering, proselflc=wavering, stopped={"cross_entropy": constant(8)})
    assert "train with cross entropy with an early stop, whose test UAR is 80.0%" in which(records)


def test_an_incomplete_design_recommends_nothing_yet():
    records = made(cross_entropy=wavering, proselflc=constant(8))
    records.confirmed.loc[0, "status"] = STOPPED
    assert which(records) == ("At noisy-B there is no verdict on ProSelfLC yet, because planned trainings are missing.")
    assert "1 of 24 planned trainings have not finished" in how_certain(records)
    assert "better" not in how_certain(records)


def test_the_first_confirmation_comes_first():
    first = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "proselflc"): constant(7)}
    later = {("noisy-B", "cross_entropy"): wavering, ("noisy-B", "elr"): constant(9)}
    records = joined(
        confirmed_records(first, folds=TWELVE, primary=PRIMARY),
        confirmed_records(later, folds=TWELVE, study="second", seeds=(2,), start=1000),
    )
    assert "train with ProSelfLC" in which(records)
    assert "ELR is better than cross entropy too" in which(records)
    assert "Confirmation second was added later and changes no verdict of an earlier one." in how_certain(records)


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


def test_a_verdict_settles_what_another_confirmation_has_not_finished():
    records = confirmed_twice(wavering, constant(2))
    records.confirmed.loc[0, "status"] = STOPPED
    assert which(records) == "At noisy-B train with cross entropy, the reference: ELR is worse."


def test_a_search_alone_cannot_show_which_loss(made_store):
    made_store.search({("proselflc", "clean"): [0.5]})
    first, second, _ = answer(made_store.records())
    assert "The search alone cannot show which loss" in first
    assert second.endswith(f"python study/confirm.py --experiment made --tracking-uri {made_store.uri} --study made")


def test_one_method_alone_is_scored_and_not_compared():
    sentence = which(made(primary=None, elr=constant(5)))
    assert "Which loss is best is unknown" in sentence
    assert "ELR 50.0% at noisy-B" in sentence


# How certain


def test_the_design_and_its_primary_comparison_come_first():
    records = made(noise=("clean", "noisy-B"), cross_entropy=wavering, proselflc=constant(8))
    assert how_certain(records) == (
        "Declared beforehand: at noisy-B (40.2% of the labels wrong) ProSelfLC is better than cross entropy, by 25.0 "
        "points of test UAR (95 % interval +21.7 to +28.3, corrected p < 0.001). At clean (0.0% of the labels wrong) "
        "ProSelfLC is better than cross entropy, by 25.0 points of test UAR (95 % interval +21.7 to +28.3, p < 0.001). "
        "Verdicts are over 12 folds of one speaker, each with its own seed and noise draw; they are about "
        "trainings on this corpus with other seeds and noise draws, tested on speakers like these."
    )


def test_no_evidence_comes_with_what_would_have_been_found():
    def mixed(speaker, seed):
        return 4 + 2 * (speaker % 2)

    declared = how_certain(made(cross_entropy=constant(5), proselflc=mixed))
    assert re.search(r"no evidence that ProSelfLC differs.*, and \d+\.\d points would have been found", declared)
    undeclared = how_certain(made(primary=None, cross_entropy=constant(5), elr=mixed))
    assert "there is no evidence that ELR differs from cross entropy: its test UAR is the same (95 % " in undeclared


# The configuration


def test_the_configuration_of_the_recommended_method_is_written(tmp_path):
    records = made(cross_entropy=wavering, elr=constant(8), primary=("noisy-B", "elr"))
    worse = records.confirmed[records.confirmed["space"] == "elr"].assign(candidate="search-1", selected=0.4)
    worse["parameters"] = [{"loss.name": "elr", "optimizer.lr": "0.5"}] * len(worse)
    records.confirmed = pd.concat([records.confirmed, worse], ignore_index=True)
    (path,) = write_configurations(records, recommend(read_families(records)), tmp_path / "new")
    assert path.name == "recommended-noisy-B.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# made: ELR at noise level noisy-B: better than cross entropy (+25.0 points, p < 0.001).")
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
        "At noisy-B (40.0% of the labels wrong), ELR changed 12.0% of the training labels in the last epoch, 45% of "
        "these to the true one; with ELR the network had memorised 20% of the wrong labels, with cross entropy 30% "
        "(mean of 3 trainings; a description, not a test)."
    )


def test_labels_that_nobody_changed_and_labels_without_truth():
    unchanged = pd.DataFrame([fate("elr", 0.0), fate("cross_entropy", 0.0)])
    assert "no loss changed a training label" in effect_sentence(unchanged, "cross_entropy", confirmed=False)
    unknown = pd.DataFrame([fate("elr", 0.1, rate=NAN)])
    sentence = effect_sentence(unknown, "cross_entropy", confirmed=False)
    assert "nan" not in sentence
    assert "of the search" in sentence
    assert "not on record" in effect_sentence(unknown.assign(changed=NAN), "cross_entropy", confirmed=True)
