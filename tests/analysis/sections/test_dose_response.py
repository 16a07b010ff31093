"""Test UAR by noise rate: from which level a method pays, and what is drawn where no verdict is possible."""

import pandas as pd

from analysis.sections.dose_response.section import Options, section
from study.schema import STOPPED
from tests.helpers.confirmed_records import confirmed_records

LEVELS = ("clean", "noisy-A", "noisy-B")
TWELVE = {fold: [fold] for fold in range(1, 13)}


def wavering(speaker, seed):
    return 5 + (speaker + seed) % 2


def better_from(first):
    """Return predictions by level: 8 of 10 from a level on, below it those of the reference."""
    place = LEVELS.index(first)
    return {level: (lambda speaker, seed: 8) if index >= place else wavering for index, level in enumerate(LEVELS)}


def made(folds=TWELVE, levels=LEVELS, **methods):
    cells = {(level, "cross_entropy"): wavering for level in levels}
    cells |= {(level, space): right[level] for space, right in methods.items() for level in levels}
    return confirmed_records(cells, folds=folds)


def test_a_method_pays_from_the_level_on_from_which_it_is_better():
    records = made(elr=better_from("noisy-A"), proselflc=better_from("noisy-B"), gce=dict.fromkeys(LEVELS, wavering))
    found = section(records, Options())
    assert found.sentences == (
        "Test UAR from clean (0.0% of the training labels wrong) to noisy-B (40.2%): cross entropy stays at 55.0%, ELR "
        "rises from 55.0% to 80.0%, ProSelfLC rises from 55.0% to 80.0%, gce stays at 55.0%.",
        "ELR pays from noisy-A (26.5% of the labels wrong): it is better than cross entropy there, and at noisy-B.",
        "ProSelfLC pays from noisy-B (40.2% of the labels wrong): it is better than cross entropy there, the highest "
        "level.",
        "Nothing shows that gce pays at noisy-B, the highest level.",
    )
    assert found.missing == ()
    (table,) = found.tables
    assert table.data.groupby("method")["rate"].apply(list).to_dict() == {
        name: [0.0, 0.2648, 0.4019] for name in ("cross_entropy", "elr", "gce", "proselflc")
    }


def test_the_table_has_a_row_per_method_and_a_column_per_level():
    found = section(made(elr=better_from("noisy-A")), Options())
    # A t interval over twelve folds that are half at 50 % and half at 60 %.
    assert found.tables[0].text.to_dict("records") == [
        {"method": "cross entropy", "clean (0.0% wrong)": "55.0 (51.7–58.3)",
         "noisy-A (26.5% wrong)": "55.0 (51.7–58.3)", "noisy-B (40.2% wrong)": "55.0 (51.7–58.3)"},
        {"method": "ELR", "clean (0.0% wrong)": "55.0 (51.7–58.3)",
         "noisy-A (26.5% wrong)": "80.0 (80.0–80.0)", "noisy-B (40.2% wrong)": "80.0 (80.0–80.0)"},
    ]  # fmt: skip


def test_a_line_per_method_an_interval_per_mark_and_a_text_on_hover():
    found = section(made(elr=better_from("noisy-A")), Options())
    (figure,) = found.figures
    (axes,) = figure.figure.axes
    assert [text.get_text() for text in figure.figure.legends[0].get_texts()] == ["cross entropy", "ELR", "chance"]
    assert (figure.figure.get_supxlabel(), axes.get_ylabel()) == ("wrong training labels, %", "test UAR, %")
    marks = {line.get_gid(): line for line in axes.lines if line.get_gid()}
    assert set(marks) == set(figure.hover)
    assert figure.hover["dose_response-0-2"] == (
        "cross entropy at noisy-B, 40.2% wrong labels: test UAR 55.0% (95 % interval 51.7 to 58.3)"
    )
    intervals = [line for line in axes.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    assert len(intervals) == len(marks) == 6
    assert figure.alternative.endswith("ELR rises from 55.0% to 80.0%. Guessing gives 50.0%.")


def test_being_better_below_the_highest_level_alone_is_not_enough():
    right = {**dict.fromkeys(LEVELS, wavering), "noisy-A": lambda speaker, seed: 8}
    found = section(made(elr=right), Options())
    assert found.sentences[1:] == ("Nothing shows that ELR pays at noisy-B, the highest level.",)


def test_single_folds_are_drawn_and_no_interval_where_no_evidence_is_possible():
    found = section(made(folds={fold: [fold] for fold in range(1, 6)}, elr=better_from("clean")), Options())
    axes = found.figures[0].figure.axes[0]
    small = [line for line in axes.lines if line.get_markersize() == 3]
    assert [sorted(line.get_ydata().round(6)) for line in small] == [[50, 50, 50, 60, 60]] * 3 + [[80] * 5] * 3
    assert len([line for line in axes.lines if line.get_gid()]) == 6
    assert not [line for line in axes.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    assert found.tables[0].text.iloc[0, 1] == "54.0 (50.0–60.0)"
    assert "interval" not in found.tables[0].caption + "".join(found.figures[0].hover.values())
    assert "small marks: single folds, too few for an interval" in found.figures[0].caption


def test_one_level_has_points_and_no_curve():
    found = section(made(levels=("clean",), elr=better_from("clean")), Options())
    assert len(found.figures) == 1
    assert found.sentences == ()
    assert found.figures[0].alternative == (
        "Test UAR at clean (0.0% of the training labels wrong): cross entropy 55.0%, ELR 80.0%. Guessing gives 50.0%."
    )
    assert found.missing[0].startswith("Only one noise level has verdicts, which is no curve. To declare several")


def test_methods_with_missing_trainings_are_not_shown_and_said():
    records = made(elr=better_from("clean"))
    records.confirmed.loc[0, "status"] = STOPPED  # cross entropy at clean
    found = section(records, Options())
    shown = set(found.tables[0].data[["level", "method"]].itertuples(index=False, name=None))
    assert shown == {("clean", "elr"), *((level, name) for level in LEVELS[1:] for name in ("cross_entropy", "elr"))}
    assert found.missing[0].startswith("Methods with missing trainings are not shown. To finish: python study/confirm")


def test_a_search_alone_has_no_curve(made_store):
    made_store.search({("elr", "clean"): [0.5], ("elr", "noisy-B"): [0.5]})
    found = section(made_store.records(), Options())
    assert found.is_empty
    assert found.missing[0].startswith("Nothing is confirmed on test rows yet. To confirm: python study/confirm.py")


def test_the_command_writes_the_table(made_store, tmp_path, call_section):
    skills = {(space, noise, "default"): skill for space, skill in (("cross_entropy", 0.4), ("elr", 0.9))
              for noise in ("clean", "noisy-B")}  # fmt: skip
    made_store.confirm(skills, folds=(1, 2, 3, 4), seeds=(1,))
    code, printed, error = call_section(
        "dose_response", "--tracking-uri", made_store.uri, "--output", str(tmp_path / "out")
    )
    assert (code, error) == (0, "")
    assert "Nothing shows that ELR pays at noisy-B" in printed  # four folds
    assert len(pd.read_csv(tmp_path / "out" / "dose_response.csv")) == 4
