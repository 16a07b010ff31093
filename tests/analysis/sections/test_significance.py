"""Comparisons of confirmed methods: known predictions, known verdicts, and words that claim no more."""

import re

import pandas as pd
import pytest

from analysis.common.families import INCOMPLETE, read_families
from analysis.common.section import write
from analysis.inference import BETTER, NO_EVIDENCE, NOT_POSSIBLE, WORSE
from analysis.sections.significance.section import Options, section
from analysis.sections.significance.sentences import primary_sentence, result_sentence
from ser.utils.errors import UserError
from study.schema import CHOSEN_BY, DESIGN, TRAINED_BY, UTTERANCES
from tests.helpers.confirmed_records import confirmed_records, joined

TWELVE = {fold: [fold] for fold in range(1, 13)}
FIVE = {fold: [fold] for fold in range(1, 6)}
PRIMARY = ("noisy-B", "proselflc")


def constant(right):
    return lambda speaker, seed: right


def wavering(speaker, seed):
    return 5 + (speaker + seed) % 2


def uneven(speaker, seed):
    return 6 if speaker < 9 else 3


def levels(**methods):
    return {(noise, space): right for noise in ("clean", "noisy-B") for space, right in methods.items()}


def verdicts(family):
    return {(row.level, row.method): row.verdict for row in family.compared.itertuples()}


def text_of(found):
    text = " ".join([*found.sentences, *found.notes, *found.missing])
    assert not re.search(r"\bnan\b|\binf\b|None", text)
    return text


# A complete design


def test_the_primary_comparison_comes_first_and_says_what_was_declared():
    records = confirmed_records(
        levels(cross_entropy=wavering, proselflc=constant(8), elr=wavering), folds=TWELVE, primary=PRIMARY
    )
    (family,) = read_families(records)
    assert verdicts(family) == {
        ("clean", "proselflc"): BETTER, ("clean", "elr"): NO_EVIDENCE,
        ("noisy-B", "proselflc"): BETTER, ("noisy-B", "elr"): NO_EVIDENCE,
    }  # fmt: skip
    primary = family.primary.iloc[0]
    assert primary["p_adjusted"] == pytest.approx(2 * primary["p"])
    found = section(records, Options())
    assert found.sentences == (
        "Declared beforehand: at noisy-B (40.2% of the labels wrong) ProSelfLC is better than cross entropy, by 25.0 "
        "points of test UAR (95 % interval +21.7 to +28.3, corrected p < 0.001).",
        "At clean (0.0% of the labels wrong) ProSelfLC is better than cross entropy, by 25.0 points of test UAR (95 % "
        "interval +21.7 to +28.3, corrected p < 0.001).",
        "There is no evidence of a difference in 2 other comparisons with cross entropy; the largest is ELR at clean, "
        "the same (95 % interval +0.0 to +0.0, corrected p > 0.999).",
        "Verdicts are over 12 folds of one speaker, each with its own seed and noise draw; they are about trainings on "
        "this corpus with other seeds and noise draws, tested on speakers like these.",
    )
    assert found.missing == ()


def test_a_worse_method_is_called_worse():
    records = confirmed_records(levels(cross_entropy=wavering, proselflc=constant(2)), folds=TWELVE, primary=PRIMARY)
    assert set(verdicts(read_families(records)[0]).values()) == {WORSE}
    assert (
        section(records, Options())
        .sentences[0]
        .startswith(
            "Declared beforehand: at noisy-B (40.2% of the labels wrong) ProSelfLC is worse than cross entropy, by "
            "35.0 points of test UAR (95 % interval −38.3 to −31.7, corrected p"
        )
    )


def test_no_evidence_says_what_would_have_been_found():
    methods = levels(cross_entropy=constant(5), proselflc=lambda speaker, seed: 4 + 2 * (speaker % 2))
    records = confirmed_records(methods, folds=TWELVE, primary=PRIMARY)
    detectable = read_families(records)[0].primary["detectable"].iloc[0]
    first = section(records, Options()).sentences[0]
    assert "there is no evidence that ProSelfLC differs from cross entropy: its test UAR is the same (95 % " in first
    assert "corrected p > 0.999" in first
    assert first.endswith(f", and {100 * detectable:.1f} points would have been found with 80 % power.")


def test_no_evidence_is_said_without_a_primary_comparison_too():
    cells = {("noisy-B", "cross_entropy"): constant(5), ("noisy-B", "elr"): lambda speaker, _: 4 + 2 * (speaker % 2)}
    first = section(confirmed_records(cells, folds=TWELVE), Options()).sentences[0]
    assert "there is no evidence that ELR differs from cross entropy: its test UAR is the same (95 % " in first


def test_a_method_that_recognises_the_same_utterances_is_said_to():
    records = confirmed_records(levels(cross_entropy=constant(5), proselflc=constant(5)), folds=TWELVE, primary=PRIMARY)
    assert primary_sentence(read_families(records)[0]).endswith(
        "differs from cross entropy: both recognise the same number of utterances of each class in every fold."
    )


def test_an_interval_clear_of_zero_without_evidence_is_said_to_be_of_one_comparison():
    records = confirmed_records(levels(cross_entropy=constant(5), proselflc=wavering), folds=TWELVE, primary=PRIMARY)
    (family,) = read_families(records)
    row = {**family.primary.iloc[0], "low": 0.001, "high": 0.04, "verdict": NO_EVIDENCE, "p_adjusted": 0.08}
    assert "+0.1 to +4.0 of this comparison alone, corrected p = 0.080)" in result_sentence(row, family)
    assert "alone" not in result_sentence({**row, "low": -0.001}, family)


def test_five_units_cannot_give_evidence():
    records = confirmed_records(levels(cross_entropy=constant(2), proselflc=constant(9)), folds=FIVE, primary=PRIMARY)
    assert set(verdicts(read_families(records)[0]).values()) == {NOT_POSSIBLE}
    found = section(records, Options())
    assert found.sentences[:2] == (
        "Declared beforehand: at noisy-B (40.2% of the labels wrong) 5 folds cannot show a difference between "
        "ProSelfLC and cross entropy, however large (seen: 70.0 points higher): the smallest possible p is 0.062, and "
        "evidence needs p ≤ 0.025, because the primary comparison and the others share 0.05, so 7 folds at least.",
        "At clean (0.0% of the labels wrong) 5 folds cannot show a difference between ProSelfLC and cross entropy, "
        "however large (seen: 70.0 points higher): the smallest possible p is 0.062, and evidence needs p ≤ 0.025, "
        "because the primary comparison and the others share 0.05, so 7 folds at least. This does "
        "not show that the methods are equally good.",
    )
    assert "interval" not in " ".join(found.sentences)
    assert set(found.tables[0].text["95 % interval"]) == {"–"}
    (drawing,) = found.figures
    units = [line for axes in drawing.figure.axes for line in axes.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata().round(6)) for line in units] == [[70.0] * 5] * 2


def test_an_official_split_has_trainings_as_units():
    records = confirmed_records(
        levels(cross_entropy=constant(4), proselflc=constant(8)), folds={1: range(6)}, seeds=range(1, 9),
        primary=PRIMARY, unit="training",
    )  # fmt: skip
    (family,) = read_families(records)
    assert family.primary[["verdict", "units"]].iloc[0].tolist() == [BETTER, 8]
    text = text_of(section(records, Options()))
    assert "8 trainings on one official split, each with its own seed and noise draw" in text
    assert "tested on these very speakers" in text


def test_the_early_stop_counts_as_a_method_of_its_own():
    records = confirmed_records(
        levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE, primary=PRIMARY,
        stopped={"cross_entropy": constant(7)},
    )  # fmt: skip
    row = read_families(records)[0].compared.set_index(["level", "method"]).loc[("clean", "cross_entropy@stopped")]
    assert (row["uar"], row["verdict"]) == (pytest.approx(0.7), BETTER)
    assert (
        "At clean (0.0% of the labels wrong) cross entropy with an early stop is better than cross entropy, by 15.0 "
        in text_of(section(records, Options()))
    )


# Incomplete designs


def test_an_incomplete_design_has_no_verdict_and_names_what_is_missing():
    methods = levels(cross_entropy=wavering, proselflc=constant(8))
    lost = {("noisy-B", "cross_entropy", fold) for fold in (2, 3, 4, 5)}
    records = confirmed_records(methods, folds=TWELVE, primary=PRIMARY, unfinished=lost)
    (family,) = read_families(records)
    assert set(verdicts(family).values()) == {INCOMPLETE}
    assert family.compared["difference"].isna().all()
    text = text_of(section(records, Options()))
    assert (
        "4 of 48 planned trainings have not finished: cross entropy at noisy-B in 4 folds (2, 3, 4, …). To resume: "
        "python study/confirm.py --resume --name first" in text
    )
    assert (
        "Declared beforehand, verdict pending: ProSelfLC against cross entropy at noisy-B: 4 planned trainings" in text
    )
    assert "better" not in text


def test_the_primary_comparison_has_a_verdict_once_its_own_trainings_are_complete():
    methods = levels(cross_entropy=wavering, proselflc=constant(8))
    whole = confirmed_records(methods, folds=TWELVE, primary=PRIMARY)
    partly = confirmed_records(methods, folds=TWELVE, primary=PRIMARY, unfinished={("clean", "proselflc", 3)})
    (family,) = read_families(partly)
    assert verdicts(family) == {("clean", "proselflc"): INCOMPLETE, ("noisy-B", "proselflc"): BETTER}
    numbers = ["difference", "low", "high", "p", "p_adjusted", "detectable"]
    pd.testing.assert_frame_equal(family.primary[numbers], read_families(whole)[0].primary[numbers])
    sentences = section(partly, Options()).sentences
    assert sentences[0].startswith("Declared beforehand: at noisy-B")
    assert sentences[1] == "The design of first is not complete. The other comparisons have no verdict until it is."


def test_trainings_without_predictions_leave_a_design_incomplete():
    records = confirmed_records(levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE)
    records.results["first-clean-proselflc-3-1", UTTERANCES] = None
    assert set(verdicts(read_families(records)[0]).values()) == {INCOMPLETE}
    text = text_of(section(records, Options()))
    assert "because they have no per-utterance table: 1 confirmed trial, first-clean-proselflc-3-1." in text


# Designs that do not hold


def test_a_confirmation_without_a_design_says_that_nothing_was_declared():
    records = confirmed_records(levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE, declared=False)
    (family,) = read_families(records)
    assert set(verdicts(family).values()) == {BETTER}
    assert not family.compared["primary"].any()
    assert section(records, Options()).sentences[0] == (
        "Nothing was declared beforehand, because confirmation first has no design: how many folds and seeds there are "
        "may have followed from what they showed."
    )


def test_without_a_design_folds_are_compared_that_all_methods_have():
    records = confirmed_records(
        levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE, declared=False,
        unfinished={("clean", "proselflc", 3)},
    )  # fmt: skip
    (family,) = read_families(records)
    assert set(family.compared["units"]) == {11}
    text = text_of(section(records, Options()))
    assert "Left out: 1 fold where not every method has a clean result of every seed." in text
    assert "1 of 48 trials of confirmation first have not finished" in text


def test_a_design_that_was_changed_is_no_declaration():
    records = confirmed_records(levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE, primary=PRIMARY)
    records.results["first-parent", DESIGN]["primary"] = {"level": "clean", "method": "proselflc"}
    assert "because design.json of confirmation first is not the one that" in section(records, Options()).sentences[0]
    assert not read_families(records)[0].compared["primary"].any()


def test_speakers_whom_the_design_does_not_name_are_refused():
    records = confirmed_records(levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE)
    trial = ("first-clean-proselflc-3-1", UTTERANCES)
    records.results[trial] = records.results[trial].assign(speaker="x")
    with pytest.raises(UserError, match="fold 3 of confirmation first was tested on x"):
        section(records, Options())


def test_another_reference_was_not_declared():
    records = confirmed_records(levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE, primary=PRIMARY)
    found = section(records, Options(reference="proselflc"))
    assert found.sentences[0].startswith("The comparison with ProSelfLC was not declared beforehand")
    assert set(verdicts(read_families(records, "proselflc")[0]).values()) == {WORSE}
    with pytest.raises(UserError, match="unknown --reference"):
        section(records, Options(reference="els"))


# What a search has seen


def test_configurations_that_were_chosen_by_the_test_speakers_are_left_out_and_counted():
    records = confirmed_records(
        levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE, candidate="search-1",
        exposure={("proselflc", 1): CHOSEN_BY, ("proselflc", 2): TRAINED_BY},
    )  # fmt: skip
    (family,) = read_families(records)
    assert family.chosen_by == 2  # at two levels
    assert set(family.compared["units"]) == {11}
    text = text_of(section(records, Options()))
    assert "the search that chose the configurations trained on the test speakers of 2 trainings." in text
    assert "Left out: 2 trainings whose configuration the search chose by the test speakers" in text


# Several confirmations


def test_a_later_confirmation_is_a_family_of_its_own_and_the_first_verdict_stays():
    methods = levels(cross_entropy=wavering, proselflc=constant(8))
    alone = read_families(confirmed_records(methods, folds=TWELVE, primary=PRIMARY))[0].compared
    later = levels(cross_entropy=wavering, elr=constant(6), gce=wavering)
    records = joined(
        confirmed_records(methods, folds=TWELVE, primary=PRIMARY),
        confirmed_records(later, folds=TWELVE, study="second", seeds=(2,), primary=("noisy-B", "elr"), start=1000),
    )
    first, second = read_families(records)
    pd.testing.assert_frame_equal(first.compared, alone)
    assert set(second.compared["method"]) == {"elr", "gce"}
    found = section(records, Options())
    assert [table.name for table in found.tables] == ["significance", "significance-2"]
    assert found.sentences[0].startswith("Declared beforehand: at noisy-B")
    (place,) = [index for index, line in enumerate(found.sentences) if line.startswith("Confirmation second was")]
    assert "ELR differs from cross entropy" in found.sentences[place + 1]


# Oracles, words, files


def test_an_oracle_is_shown_as_one():
    records = confirmed_records(levels(cross_entropy=wavering, soft_labels=constant(8)), folds=TWELVE)
    (family,) = read_families(records)
    assert family.compared["oracle"].all()
    found = section(records, Options())
    assert "; it is an oracle, shown and never recommended." in text_of(found)
    assert set(found.tables[0].text["verdict"]) == {"better (oracle)"}


def test_one_method_is_compared_with_none():
    found = section(confirmed_records(levels(cross_entropy=wavering), folds=TWELVE), Options())
    assert found.is_empty
    assert "nothing is compared" in text_of(found)


def test_methods_tested_on_different_utterances_are_refused():
    records = confirmed_records(levels(cross_entropy=wavering, proselflc=constant(8)), folds=TWELVE)
    trial = ("first-clean-proselflc-1-1", UTTERANCES)
    records.results[trial] = records.results[trial].iloc[1:]
    with pytest.raises(UserError):
        section(records, Options())


def test_results_repeat(tmp_path):
    methods = levels(cross_entropy=wavering, proselflc=constant(8))
    for name in ("1", "2"):
        write(section(confirmed_records(methods, folds=TWELVE, primary=PRIMARY), Options()), tmp_path / name)
    for path in (tmp_path / "1").glob("*.[cms]*"):
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


def test_the_figure_shows_every_verdict_and_level():
    methods = levels(
        cross_entropy=constant(5), a=constant(8), b=constant(2), c=lambda speaker, _: 4 + 2 * (speaker % 2)
    )
    (drawing,) = section(confirmed_records(methods, folds=TWELVE), Options()).figures
    assert [axes.get_title(loc="left") for axes in drawing.figure.axes] == [
        "clean, 0.0% wrong labels",
        "noisy-B, 40.2% wrong labels",
    ]
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == [
        "evidence that it is better", "evidence that it is worse", "no evidence", "found with less than 80 % power",
    ]  # fmt: skip


def test_every_mark_of_the_figure_says_what_it_is_on_hover():
    (drawing,) = section(
        confirmed_records(levels(cross_entropy=wavering, elr=constant(8)), folds=TWELVE), Options()
    ).figures
    marks = {line.get_gid() for axes in drawing.figure.axes for line in axes.lines} - {None}
    assert marks == set(drawing.hover)
    assert "ELR at noisy-B: +25.0 points, 95 % interval +21.7…+28.3; better" in drawing.hover.values()


# The command


def test_the_command_reads_a_store_and_writes_what_it_found(made_store, tmp_path, call_section):
    made_store.search({("cross_entropy", "clean"): [0.5]})
    where = ["--tracking-uri", made_store.uri, "--output", str(tmp_path / "out")]
    code, printed, error = call_section("significance", *where)
    assert (code, error) == (0, "")
    assert f"To confirm: python study/confirm.py --experiment made --tracking-uri {made_store.uri}" in printed
    assert not (tmp_path / "out").exists()
    skills = {("cross_entropy", "clean", "default"): 0.4, ("elr", "clean", "default"): 0.95}
    made_store.confirm(skills, folds=(1, 2, 3, 4), seeds=(1,), primary=("clean", "elr"))
    code, printed, error = call_section("significance", *where)
    assert (code, error) == (0, "")
    assert (
        "Declared beforehand: at clean (0.0% of the labels wrong) 4 folds cannot show a difference between ELR"
        in printed
    )
    table = pd.read_csv(tmp_path / "out" / "significance.csv")
    assert table[["units", "verdict"]].iloc[0].tolist() == [4, NOT_POSSIBLE]
    assert table["difference"].iloc[0] > 0.2
    assert (tmp_path / "out" / "significance.png").stat().st_size > 5_000
    code, printed, error = call_section("significance", *where, "--reference", "err")
    assert (code, printed) == (2, "")
    assert "unknown --reference 'err'. Did you mean 'elr'?" in error
