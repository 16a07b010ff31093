"""Dose and response: from which level a method pays, and what is drawn where no verdict is possible."""

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
        "elr pays from noisy-A (26.5% of the labels wrong): it is better than cross_entropy there, and at noisy-B.",
        "proselflc pays from noisy-B (40.2% of the labels wrong): it is better than cross_entropy there, the highest "
        "level.",
        "Nothing shows that gce pays at noisy-B, the highest level.",
    )
    (table,) = found.tables
    assert table.data.groupby("method")["rate"].apply(list).to_dict() == {
        name: [0.0, 0.2648, 0.4019] for name in ("elr", "gce", "proselflc")
    }
    titles = [axes.get_title(loc="left") for axes in found.figures[0].figure.axes if axes.get_visible()]
    assert titles == ["elr", "proselflc", "gce"]


def test_being_better_below_the_highest_level_alone_is_not_enough():
    right = {**dict.fromkeys(LEVELS, wavering), "noisy-A": lambda speaker, seed: 8}
    found = section(made(elr=right), Options())
    assert found.sentences == ("Nothing shows that elr pays at noisy-B, the highest level.",)


def test_single_folds_are_drawn_where_no_evidence_is_possible():
    found = section(made(folds={fold: [fold] for fold in range(1, 6)}, elr=better_from("clean")), Options())
    axes = found.figures[0].figure.axes[0]
    (points,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert sorted(set(points.get_ydata().round(6))) == [20, 30]
    assert len(points.get_xdata()) == 15


def test_one_level_is_no_curve_and_an_incomplete_design_has_none():
    found = section(made(levels=("clean",), elr=better_from("clean")), Options())
    assert found.is_empty
    assert "needs two noise levels" in found.missing[0]
    records = made(elr=better_from("clean"))
    records.confirmed.loc[0, "status"] = STOPPED
    assert section(records, Options()).is_empty


def test_the_command_writes_the_table(made_store, tmp_path, call_section):
    skills = {(space, noise, "default"): skill for space, skill in (("cross_entropy", 0.4), ("elr", 0.9))
              for noise in ("clean", "noisy-B")}  # fmt: skip
    made_store.confirm(skills, folds=(1, 2, 3, 4), seeds=(1,))
    code, printed, error = call_section(
        "dose_response", "--tracking-uri", made_store.uri, "--output", str(tmp_path / "out")
    )
    assert (code, error) == (0, "")
    assert "Nothing shows that elr pays at noisy-B" in printed  # four folds
    assert len(pd.read_csv(tmp_path / "out" / "dose_response.csv")) == 2
