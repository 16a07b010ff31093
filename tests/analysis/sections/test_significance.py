"""Comparisons of confirmed methods: known predictions, known differences, and words that claim no more."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.common.section import write
from analysis.common.text import points
from analysis.sections.significance.comparisons import (
    BETTER,
    HELD_OUT,
    IMPOSSIBLE,
    NO_EVIDENCE,
    SEEN,
    WORSE,
    compare_all,
    rank_all,
    read_tested,
)
from analysis.sections.significance.figures import draw_differences, draw_rankings
from analysis.sections.significance.section import Options, section
from analysis.sections.significance.speaker_counts import count, full_blocks
from ser.utils.errors import UserError
from study.schema import STOPPED
from tests.helpers.confirmed_records import CLASSES, confirmed_records, predictions

TEN = {1: range(5), 2: range(5, 10)}


def constant(right):
    return lambda speaker, seed: right


def wavering(speaker, seed):
    return 5 + (speaker + seed) % 2


def compared(records, reference="cross_entropy"):
    return compare_all(read_tested(records), reference, len(records.classes))


def no_nan(found):
    text = " ".join([*found.sentences, *found.notes, *found.missing])
    assert not re.search(r"\bnan\b|\binf\b|None", text)
    return text


# Counting.


def test_test_rows_are_counted_by_speaker_and_class():
    table = predictions([3], 1, constant(7))
    table.loc[0, "label"] = None
    counted = count(table, CLASSES)
    assert counted.unlabelled == 1
    assert counted.table.loc[("s03", 0)].tolist() == [6, 9]
    assert counted.table.loc[("s03", 1)].tolist() == [7, 10]
    assert count(table.assign(label=None), CLASSES) is None
    with pytest.raises(UserError, match="other classes"):
        count(table, ("angry", "happy"))


def test_the_most_blocks_are_kept_that_have_every_seed_and_fold():
    assert full_blocks([(1, 1), (1, 2), (2, 1), (2, 2)]) == ((1, 2), (1, 2))
    assert full_blocks([(1, 1), (1, 2), (2, 1)]) == ((1,), (1, 2))
    assert full_blocks([(seed, fold) for seed in range(5) for fold in (1, 2)][:-1]) == ((0, 1, 2, 3), (1, 2))
    assert full_blocks([(1, 1), (2, 1), (3, 1), (3, 2)]) == ((1, 2, 3), (1,))
    assert full_blocks([(1, 1), (2, 2)]) == ((2,), (2,))


# Comparing.


def test_differences_are_those_that_were_made():
    records = confirmed_records(
        {("clean", "cross_entropy"): constant(5), ("clean", "elr"): lambda speaker, seed: 6 + (seed == 2)}, folds=TEN
    )
    (row,) = compared(records).to_dict("records")
    assert (row["uar"], row["uar_reference"]) == pytest.approx((0.65, 0.5))
    assert row["difference"] == pytest.approx(0.15)
    assert row["sd_seeds"] == pytest.approx(0.1 / np.sqrt(2))
    assert (row["speakers"], row["utterances"], row["seeds"], row["fold_names"]) == (10, 200, "1, 2", "1, 2")
    assert row["p"] == row["p_holm"] == row["p_smallest"] == 2 / 2**10
    assert (row["verdict"], row["p_better"]) == (BETTER, 1)
    (swapped,) = compared(records, "elr").to_dict("records")
    assert (swapped["difference"], swapped["verdict"]) == (pytest.approx(-0.15), WORSE)


def test_folds_are_pooled_before_the_mean_recall():
    # Speaker 0 alone in fold 1, nine in fold 2: a mean over folds would give the one the weight of nine.
    records = confirmed_records(
        {("clean", "cross_entropy"): constant(5), ("clean", "elr"): lambda speaker, seed: 10 if speaker == 0 else 5},
        folds={1: [0], 2: range(1, 10)},
    )
    (row,) = compared(records).to_dict("records")
    assert row["difference"] == pytest.approx(0.05)


def test_holm_corrects_over_methods_and_levels_of_the_held_out_folds():
    def mixed(speaker, seed):
        return 7 if speaker < 9 else 3

    methods = {
        (noise, space): right
        for noise in ("clean", "noisy-B")
        for space, right in {"cross_entropy": constant(5), "elr": mixed, "gce": constant(5)}.items()
    }
    table = compared(confirmed_records(methods, folds=TEN))
    assert len(table) == 4
    ps = table["p"].to_numpy()
    assert table["p_holm"].tolist() == pytest.approx([min(1, 4 * ps[0]), 1, min(1, 4 * ps[2]), 1])
    both = compared(confirmed_records(methods, folds=TEN, held_out=[2]))
    assert both["folds"].value_counts().to_dict() == {HELD_OUT: 4, SEEN: 4}
    assert set(both.loc[both["folds"] == HELD_OUT, "fold_names"]) == {"2"}
    assert set(both["speakers"]) == {5}


def test_too_few_speakers_are_reported():
    methods = {("clean", "cross_entropy"): constant(2), ("clean", "elr"): constant(9)}
    records = confirmed_records(methods, folds={1: range(3)})
    (row,) = compared(records).to_dict("records")
    assert (row["verdict"], row["p"], row["smallest_detectable"]) == (IMPOSSIBLE, 0.25, np.inf)
    text = no_nan(section(records, Options()))
    assert "with 3 speakers p cannot fall below 0.25" in text
    assert "too short" in text
    assert "Evidence that" not in text


def test_many_comparisons_can_make_evidence_impossible():
    methods = {("clean", "cross_entropy"): constant(2), **{("clean", f"m{i}"): constant(9) for i in range(3)}}
    records = confirmed_records(methods, folds={1: range(6)})
    assert set(compared(records)["verdict"]) == {IMPOSSIBLE}
    text = no_nan(section(records, Options()))
    assert "below 0.0312, and below 0.0938 once corrected for 3 comparisons (it is 0.031 before)" in text


def test_no_evidence_is_said_with_what_could_have_been_seen():
    records = confirmed_records(
        {("clean", "cross_entropy"): constant(5), ("clean", "elr"): lambda speaker, seed: 4 + 2 * (speaker % 2)},
        folds=TEN,
    )
    (row,) = compared(records).to_dict("records")
    assert row["verdict"] == NO_EVIDENCE
    text = no_nan(section(records, Options()))
    assert f"A difference of {100 * row['smallest_detectable']:.1f} points would have shown four times in five" in text
    alike = confirmed_records({("clean", "cross_entropy"): wavering, ("clean", "elr"): wavering}, folds=TEN)
    assert "score alike for every speaker" in no_nan(section(alike, Options()))


def test_points_have_a_sign():
    assert [points(0.0123), points(-0.0123), points(-0.0001)] == ["+1.2", "−1.2", "+0.0"]


# Ranking.


def test_ranks_are_over_folds_and_seeds():
    methods = {("clean", name): constant(right) for name, right in {"a": 5, "b": 9, "cross_entropy": 7}.items()}
    (level,) = rank_all(read_tested(confirmed_records(methods, folds=TEN)))
    assert level.methods == ("a", "b", "cross_entropy")
    assert list(level.ranking.ranks) == [3, 1, 2]
    assert (level.blocks, level.mean_uar) == (4, pytest.approx((0.5, 0.9, 0.7)))
    text = no_nan(section(confirmed_records(methods, folds=TEN), Options()))
    assert "mean ranks over 4 blocks (fold × seed): b 1.00, cross_entropy 2.00, a 3.00. They differ" in text
    assert "b before a" in text


def test_two_methods_have_no_diagram():
    methods = {("clean", "cross_entropy"): wavering, ("clean", "elr"): constant(6)}
    found = section(confirmed_records(methods, folds=TEN), Options())
    assert [figure.name for figure in found.figures] == ["significance"]
    assert "No critical-difference diagram of clean: it compares three methods or more" in " ".join(found.missing)


# What is left out, and said.


def test_unfinished_and_unpaired_trials_are_left_out_and_reported():
    records = confirmed_records({("clean", "cross_entropy"): wavering, ("clean", "elr"): constant(6)}, folds=TEN)
    records.confirmed.loc[records.confirmed["run_id"] == "clean-elr-2-2", "status"] = STOPPED
    (row,) = compared(records).to_dict("records")
    assert (row["seeds"], row["fold_names"], row["unpaired"]) == ("1", "1, 2", 3)
    text = no_nan(section(records, Options()))
    assert "1 of 8 trials of the confirmation have not finished" in text
    assert "3 trials have no counterpart" in text
    assert "nothing is known of its chance. To add seeds: python study/confirm.py --experiment made --seeds 5" in text


@pytest.mark.parametrize("source", ["another", None])
def test_a_second_confirmation_takes_the_place_of_the_first(source):
    records = confirmed_records({("clean", "cross_entropy"): wavering, ("clean", "elr"): constant(6)}, folds=TEN)
    older = records.confirmed.assign(run_id=lambda table: "old-" + table["run_id"], start=-1)
    older["source"] = source or older["source"]
    records.confirmed = pd.concat([older, records.confirmed], ignore_index=True)
    records._tables.update({f"old-{name}": table.assign(p_angry=0.0) for name, table in records._tables.items()})
    tested = read_tested(records)
    assert tested.repeated == 8
    assert not tested.trials["run_id"].str.startswith("old").any()
    assert "8 trials were left out because a newer confirmation replaces them" in no_nan(section(records, Options()))


@pytest.mark.parametrize(
    ("table", "message"), [(None, "have no table of utterances"), ("unlabelled", "no true label in the test part")]
)
def test_methods_without_predictions_are_reported(table, message):
    records = confirmed_records({("clean", "cross_entropy"): wavering, ("clean", "elr"): constant(6)}, folds=TEN)
    for name in [name for name in records._tables if "elr" in name]:
        records._tables[name] = None if table is None else records._tables[name].assign(label=None)
    text = no_nan(section(records, Options()))
    assert message in text
    assert "of both cross_entropy and the other: elr at clean" in text


def test_folds_that_the_search_has_seen_are_labelled():
    methods = {("clean", name): constant(right) for name, right in {"a": 5, "b": 9, "cross_entropy": 7}.items()}
    records = confirmed_records(methods, folds=TEN, held_out=[9])
    text = no_nan(section(records, Options()))
    assert "2 comparisons with cross_entropy on folds that the search has seen: evidence of a better" in text
    assert "No fold that the search held out was confirmed" in text
    assert "--folds held-out" in text
    both = section(confirmed_records(methods, folds=TEN, held_out=[1]), Options())
    assert [table.name for table in both.tables] == ["significance", "significance_seen", "ranks"]
    assert "no part of the findings" in no_nan(both)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({("clean", "cross_entropy"): wavering}, "No other method than cross_entropy was confirmed"),
        ({("clean", "elr"): wavering}, "predictions of both cross_entropy and the other: elr at clean"),
    ],
)
def test_one_method_is_compared_with_none(methods, message):
    found = section(confirmed_records(methods, folds=TEN, seeds=[1]), Options())
    assert found.sentences == ()
    assert message in no_nan(found)


def test_methods_tested_on_different_utterances_are_refused():
    records = confirmed_records({("clean", "cross_entropy"): wavering, ("clean", "elr"): constant(6)}, folds=TEN)
    records._tables["clean-elr-1-1"] = records._tables["clean-elr-1-1"].iloc[1:]
    with pytest.raises(UserError, match="different utterances"):
        section(records, Options())


def test_results_repeat(tmp_path):
    methods = {("clean", name): wavering for name in ("a", "b")} | {("clean", "cross_entropy"): constant(6)}
    first, second = (confirmed_records(methods, folds=TEN) for _ in range(2))
    pd.testing.assert_frame_equal(compared(first), compared(second))
    write(section(first, Options()), tmp_path / "1")
    write(section(second, Options()), tmp_path / "2")
    for path in (tmp_path / "1").glob("*.[cms]*"):
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


# Drawing.


def test_figures_show_every_verdict_and_level():
    def small(speaker, seed):
        return 4 + 2 * (speaker % 2)

    methods = {
        (noise, space): right
        for noise in ("clean", "noisy-B")
        for space, right in {"cross_entropy": constant(5), "a": constant(8), "b": constant(2), "c": small}.items()
    }
    records = confirmed_records(methods, folds=TEN)
    table = compared(records)
    assert set(table["verdict"]) == {BETTER, WORSE, NO_EVIDENCE}
    figure = draw_differences(table)
    assert isinstance(figure, Figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["clean, 0.0% wrong", "noisy-B, 40.0% wrong"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "evidence that it is better",
        "evidence that it is worse",
        "no evidence",
        "seen less often than four times in five",
    ]
    diagram = draw_rankings(rank_all(read_tested(records)))
    shown = {text.get_text() for axes in diagram.axes for text in axes.texts}
    assert {"a (1.00)", "b (4.00)"} <= shown


# The command.


def test_the_command_reads_a_store_and_writes_what_it_found(made_store, tmp_path, call_section):
    made_store.search({("cross_entropy", "clean"): [0.5]})
    where = ["--tracking-uri", made_store.uri, "--output", str(tmp_path / "out")]
    code, printed, error = call_section("significance", *where)
    assert (code, error) == (0, "")
    assert f"To confirm: python study/confirm.py --experiment made --tracking-uri {made_store.uri}" in printed
    assert not (tmp_path / "out").exists()
    skills = {("cross_entropy", "clean", "search-1"): 0.4, ("elr", "clean", "search-1"): 0.95}
    made_store.confirm(skills, folds=(1, 2), held_out=1, seeds=(1,))
    code, printed, error = call_section("significance", *where)
    assert (code, error) == (0, "")
    assert "clean, elr against cross_entropy: test UAR" in printed
    table = pd.read_csv(tmp_path / "out" / "significance.csv")
    assert table["speakers"].tolist() == [2]
    assert table["difference"].iloc[0] > 0.2
    assert (tmp_path / "out" / "significance.png").stat().st_size > 5_000
    assert r"\toprule" in (tmp_path / "out" / "significance_seen.tex").read_text()
    code, printed, error = call_section("significance", *where, "--reference", "err")
    assert (code, printed) == (2, "")
    assert "unknown --reference 'err'. Did you mean 'elr'?" in error
